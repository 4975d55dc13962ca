"""`oidc keys`, `oidc rotate`: the keys that identity tokens of jobs are signed with (contract-admin 7.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gocdnext.cli.common import Target, print_json, target_options
from gocdnext.cli.table import print_rows
from gocdnext.cli.terminal import safe

if TYPE_CHECKING:
    from gocdnext.client.messages import SigningKey


@click.group()
def oidc() -> None:
    """Look at the keys that identity tokens of jobs are signed with, and rotate them."""


@oidc.command()
@target_options
def keys(target: Target) -> None:
    """List every signing key, newest first."""
    with target.client("asking for the signing keys") as client:
        found = client.signing_keys()
    if target.as_json:
        print_json(found)
        return
    rows = [(key["kid"], _state(key), key["created_at"]) for key in found["keys"]]
    print_rows(("kid", "status", "created"), rows)


@oidc.command()
@target_options
@click.option("--emergency", is_flag=True, help="Withdraw the old key at once: its tokens are refused from then on.")
def rotate(target: Target, emergency: bool) -> None:
    """Make a new signing key. The old one stays published until its last token has ended."""
    with target.client("rotating the signing key") as client:
        done = client.rotate_signing_key("emergency" if emergency else "graceful")
    if target.as_json:
        print_json(done)
    else:
        click.echo(f"signing with {safe(done['kid'], colours=False)}: {safe(done['note'], colours=False)}")


def _state(key: SigningKey) -> str:
    if "revoked_at" in key:
        return f"revoked {key['revoked_at']}"
    return f"retired {key['retired_at']}" if "retired_at" in key else "signs"
