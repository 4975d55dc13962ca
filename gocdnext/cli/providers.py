"""`integrations`: GitHub Apps; `projects check-reporting`, `projects rotate-webhook-secret` (contract-admin 6.7, 6.9, 7.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gocdnext.cli import complete
from gocdnext.cli.common import Target, print_json, target_options
from gocdnext.cli.table import print_facts, print_rows
from gocdnext.cli.terminal import moment, safe

if TYPE_CHECKING:
    from gocdnext.client.messages import GithubIntegration, TokenIntegration, VcsIntegration, WebhookResult

MAX_KEY = 64 * 1024
"""Bytes of a key's file."""


project_argument = click.argument("project", metavar="PROJECT", shell_complete=complete.projects)


@click.command("check-reporting")
@target_options
@project_argument
@click.argument("mode", type=click.Choice(["both", "check_run", "commit_status"]), required=False)
def check_reporting(target: Target, project: str, mode: str | None) -> None:
    """Show how runs of a project are told to GitHub, and what could not be told; with MODE, set it for runs from now on."""
    with target.client("asking how runs are told") as client:
        found = client.check_reporting(project) if mode is None else client.set_check_reporting(project, mode)
    if target.as_json:
        print_json(found)
        return
    click.echo(f"runs of {_plain(project)} are told as {_plain(found['mode'])}")
    for report in found.get("given_up") or ():
        name = _plain(f"{report['pipeline_name']} #{report['counter']}")
        click.echo(f"given up  {moment(report['at'])}  {name} {report['status']}: {_plain(report['error'])}")


@click.command("rotate-webhook-secret")
@target_options
@project_argument
def rotate_webhook_secret(target: Target, project: str) -> None:
    """Give the webhook of a project a new secret, and print it. The old one is refused from now on.

    Where the server may register hooks at the provider, the hook there gets the new secret too.
    """
    with target.client(f"giving the webhook of {project} a new secret") as client:
        made = client.rotate_webhook_secret(project)
    if target.as_json:
        print_json(made)
        return
    click.echo(made["generated_webhook_secret"])
    if hook := made.get("webhook"):
        click.echo(hook_line(hook), err=True)
    else:
        click.echo("set it at the provider too: this server does not register hooks (GOCDNEXT_PUBLIC_BASE)", err=True)


@click.group()
def integrations() -> None:
    """See what works with which provider, and keep GitHub Apps."""


@integrations.command()
@target_options
def show(target: Target) -> None:
    """Show what the server does by itself at each provider."""
    with target.client("asking for integrations") as client:
        found = client.integrations()
    if target.as_json:
        print_json(found)
        return
    columns = ("provider", "app", "registers hooks", "hooks point to")
    print_rows(columns, [_provider(name, found[name]) for name in ("github", "gitlab", "bitbucket")])


def _provider(name: str, found: GithubIntegration | TokenIntegration) -> tuple[str, ...]:
    configured = found.get("app_configured")
    app = "-" if configured is None else "yes" if configured else "no"
    return name, app, "yes" if found["auto_register_on"] else "no", found["webhook_endpoint"] or "-"


@integrations.command("list")
@target_options
def list_(target: Target) -> None:
    """List GitHub Apps: those that are kept, and which are in use."""
    with target.client("asking for GitHub Apps") as client:
        found = client.apps()
    if target.as_json:
        print_json(found)
        return
    used = {entry["name"] for entry in found["active"]}
    rows = [
        (_plain(entry["name"]), str(entry.get("app_id", "-")), _state(entry, used), entry["id"])
        for entry in found["integrations"]
    ]
    rows += [("env", str(entry["app_id"]), "in use", "-") for entry in found["active"] if entry["source"] == "env"]
    print_rows(("name", "app", "state", "id"), rows)


def _state(entry: VcsIntegration, used: set[str]) -> str:
    if not entry["enabled"]:
        return "disabled"
    return "in use" if entry["name"] in used else "not usable"


@integrations.command("set")
@target_options
@click.argument("name")
@click.option("--app-id", type=click.IntRange(1), required=True, help="GitHub's number of the App.")
@click.option(
    "--key-file",
    type=click.File("rb"),
    help="The private key in PEM; `-` reads it here. Default: the one that is kept.",
)
@click.option(
    "--webhook-secret-file",
    type=click.File("rb"),
    help="What the App's own webhook is signed with. Default: as it is kept.",
)
@click.option(
    "--api-base", default="", help="The API, https://HOST/api/v3 for an Enterprise Server. Default: github.com."
)
@click.option("--display-name", default="", help="A name for people.")
@click.option("--disabled", is_flag=True, help="Keep it without using it.")
def set_(target: Target, name: str, app_id: int, disabled: bool, **more: Any) -> None:
    """Keep a GitHub App under NAME, in place of the one that has it. Keys are read from files, never from arguments."""
    app = {
        "name": name,
        "kind": "github_app",
        "app_id": app_id,
        "api_base": more["api_base"],
        "display_name": more["display_name"],
        "enabled": not disabled,
        "private_key": _read(more["key_file"]),
        "webhook_secret": _read(more["webhook_secret_file"]).strip(),
    }
    with target.client("keeping the GitHub App") as client:
        made = client.set_app(app)
    if target.as_json:
        print_json(made)
        return
    click.echo(f"integration {_plain(made['integration']['name'])} {made['integration']['id']}")
    if warning := made.get("reload_warning"):
        click.echo(f"warning: it is kept and not in use: {_plain(warning)}", err=True)


@integrations.command()
@target_options
@click.argument("integration", metavar="ID")
def delete(target: Target, integration: str) -> None:
    """Delete a GitHub App; it is not used any more."""
    with target.client("deleting the GitHub App") as client:
        client.delete_app(integration)
    if target.as_json:
        print_json({})
    else:
        click.echo(f"deleted {_plain(integration)}")


@integrations.command()
@target_options
def reload(target: Target) -> None:
    """Read GitHub Apps anew, and say what is wrong with them."""
    with target.client("reading GitHub Apps") as client:
        found = client.reload_apps()
    if target.as_json:
        print_json(found)
        return
    print_facts((entry["name"], f"{entry['source']} {entry['app_id']}") for entry in found["active"])


def _read(file: Any) -> str:
    if file is None:
        return ""
    try:
        text: str = file.read(MAX_KEY + 1).decode()
    except UnicodeDecodeError:
        raise click.UsageError("the file is not text") from None
    if len(text) > MAX_KEY:
        raise click.UsageError(f"the file has more than {MAX_KEY} bytes")
    return text


def hook_line(hook: WebhookResult) -> str:
    """What became of a hook at its provider."""
    error = f": {_plain(hook['error'])}" if hook.get("error") else ""
    return f"hook at {_plain(hook.get('provider') or '-')}: {_plain(hook['status'])}{error}"


def _plain(text: str) -> str:
    return safe(text, colours=False)
