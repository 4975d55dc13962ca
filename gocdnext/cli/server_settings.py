"""`health`, `scm-credentials` and `profiles`, for administrators (contract-admin 7.6, 7.9, 7.11)."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import click

from gocdnext.cli.common import FAILED, Failure, Target, print_json, target_options
from gocdnext.cli.private import read_secret, secret_options
from gocdnext.cli.table import print_facts, print_rows
from gocdnext.cli.terminal import moment, safe

if TYPE_CHECKING:
    from gocdnext.client import Client

CREDENTIALS, PROFILES = "/api/v1/admin/scm-credentials", "/api/v1/admin/runner-profiles"
PRESERVE = "__GOCDNEXT_SECRET_PRESERVE__"
"""As the value of a secret: the server keeps what it has."""
LONGEST = 64 * 1024
"""Characters of a file with a profile."""
ANSWERED = ("id", "secret_keys", "secret_refs", "created_at", "updated_at")
"""What a profile has that is not sent back."""
profile_argument = click.argument("profile", metavar="NAME")
file_option = click.option("--file", type=click.File(), help="JSON with the fields of the profile; - is stdin.")


@click.command()
@target_options
def health(target: Target) -> None:
    """Show how the server is: database, agents, queue, scheduler. Exit code 1 when the database is not well."""
    with target.client("asking for the health of the server") as client:
        found = client.call("GET", "/api/v1/admin/health")
    if target.as_json:
        print_json(found)
    else:
        agents = f"{found['agents_online']} online, {found['agents_stale']} silent, {found['agents_offline']} offline"
        lag = found["scheduler_tick_lag_seconds"]
        facts = (
            ("database", "ok" if found["db_ok"] else found["db_error"]),
            ("agents", agents),
            ("queued runs", str(found["queued_runs"])),
            ("open jobs", str(found["pending_jobs"])),
            ("last 7 days", f"{found['success_rate_7d']:.0%} success"),
            ("scheduler", "has not looked yet" if lag is None else f"{lag:g} s late"),
            *((f"disk ({disk['name']})", _disk(disk)) for disk in found.get("disks", ())),
            ("looked at", moment(found.get("scheduler_last_tick_at"))),
        )
        print_facts(facts)
    if not found["db_ok"]:
        raise SystemExit(FAILED)


def _disk(disk: dict[str, Any]) -> str:
    return disk["text"] or f"{disk['free_bytes'] >> 20} of {disk['total_bytes'] >> 20} MiB free"


@click.group("scm-credentials")
def scm_credentials() -> None:
    """What the server and its agents sign in with at hosts of repositories."""


@scm_credentials.command("list")
@target_options
def list_credentials(target: Target) -> None:
    """List credentials by provider and host; of a token only its ends."""
    with target.client() as client:
        found = client.call("GET", CREDENTIALS)
    if target.as_json:
        print_json(found)
        return
    rows = [
        (
            one["provider"],
            one["host"],
            one.get("auth_ref_preview") or "-",
            one.get("display_name") or "-",
            moment(one["updated_at"]),
            one["id"],
        )
        for one in found["credentials"]
    ]
    print_rows(("provider", "host", "token", "name", "set", "id"), rows, folded=("host", "name"))


@scm_credentials.command("set")
@target_options
@click.argument("provider", type=click.Choice(["github", "gitlab", "bitbucket"]))
@click.argument("host")
@click.option("--api-base", default="", metavar="URL", help="Where its API is, if not where it usually is.")
@click.option("--name", default="", help="What to call it.")
@secret_options
def set_credential(
    target: Target, provider: str, host: str, api_base: str, name: str, from_file: str | None, from_stdin: bool
) -> None:
    """Keep a token for a provider at HOST, in place of the one before. It is asked for, or read from a file or stdin.

    USER:PASSWORD is one too.
    """
    token = read_secret("Token", from_file, from_stdin)
    body = {"provider": provider, "host": host, "api_base": api_base, "display_name": name, "auth_ref": token}
    with target.client() as client:
        made = client.call("POST", CREDENTIALS, body)
    _done(target, made, f"credential for {made['provider']} at {made['host']} kept")


@scm_credentials.command("rm")
@target_options
@click.argument("host", metavar="HOST|ID")
@click.option("--provider", type=click.Choice(["github", "gitlab", "bitbucket"]), help="Only of this provider.")
def remove_credential(target: Target, host: str, provider: str | None) -> None:
    """Remove the token for a host."""
    with target.client() as client:
        found = [
            one
            for one in client.call("GET", CREDENTIALS)["credentials"]
            if host.lower() in (one["host"], one["id"]) and provider in (None, one["provider"])
        ]
        if not found:
            raise Failure(f"there is no credential for {host}. See: gocdnext scm-credentials list")
        if len(found) > 1:
            raise Failure(f"several providers have a credential for {host}: say which one with --provider")
        client.call("DELETE", f"{CREDENTIALS}/{found[0]['id']}")
    document = {"id": found[0]["id"], "host": found[0]["host"], "status": "removed"}
    _done(target, document, f"credential for {found[0]['provider']} at {found[0]['host']} removed")


@click.group()
def profiles() -> None:
    """Runner profiles: what jobs get besides what they say themselves."""


@profiles.command("list")
@target_options
def list_profiles(target: Target) -> None:
    """List profiles by name."""
    with target.client() as client:
        found = client.call("GET", PROFILES)
    if target.as_json:
        print_json(found)
        return
    rows = [
        (one["name"], one["default_image"] or "-", ",".join(one["tags"]) or "-", one["description"] or "-", one["id"])
        for one in found["profiles"]
    ]
    print_rows(("profile", "image", "tags", "description", "id"), rows, folded=("image", "tags", "description"))


@profiles.command()
@target_options
@profile_argument
def show(target: Target, profile: str) -> None:
    """Show a profile as JSON: what `create --file` and `update --file` take, and its secrets by name."""
    with target.client() as client:
        print_json(_profile(client, profile))


@profiles.command()
@target_options
@profile_argument
@file_option
@click.option("--description", help="What it is for.")
@click.option("--image", help="The image of jobs that name none.")
@click.option("--tag", "tags", multiple=True, help="A tag that agents must have; may be repeated.")
@click.option("--env", "envs", metavar="NAME=VALUE", multiple=True, help="A variable; may be repeated.")
def create(target: Target, profile: str, file: IO[str] | None, **options: Any) -> None:
    """Make a profile, from a file, from options, or from both."""
    body = _wanted({"engine": "kubernetes", **_read(file), "name": profile}, options)
    with target.client() as client:
        made = client.call("POST", PROFILES, body)
    _done(target, made, f"profile {made['name']} created")


@profiles.command()
@target_options
@profile_argument
@file_option
@click.option("--name", help="Another name.")
@click.option("--description", help="What it is for.")
@click.option("--image", help="The image of jobs that name none.")
@click.option("--tag", "tags", multiple=True, help="A tag that agents must have; may be repeated, replaces them all.")
@click.option("--env", "envs", metavar="NAME=VALUE", multiple=True, help="A variable; may be repeated.")
def update(target: Target, profile: str, file: IO[str] | None, name: str | None, **options: Any) -> None:
    """Change a profile: a file replaces all but its secrets, options change what they say."""
    said = _read(file)
    with target.client() as client:
        found = _profile(client, profile)
        body = _wanted({"engine": "kubernetes", **(said or _sendable(found)), "name": name or profile}, options)
        body["secrets"] = _kept(found) | said.get("secrets", {})
        client.call("PUT", f"{PROFILES}/{found['id']}", body)
    document = {"id": found["id"], "name": body["name"], "status": "changed"}
    _done(target, document, f"profile {body['name']} changed")


@profiles.command()
@target_options
@profile_argument
@click.argument("key")
@click.option("--rm", "remove", is_flag=True, help="Remove it.")
@secret_options
def secret(target: Target, profile: str, key: str, remove: bool, from_file: str | None, from_stdin: bool) -> None:
    """Keep a secret variable KEY of a profile. The value is asked for; {{secret:NAME}} points to a global secret."""
    value = "" if remove else read_secret("Value", from_file, from_stdin)
    with target.client() as client:
        found = _profile(client, profile)
        kept = _kept(found)
        if remove and key not in kept:
            raise Failure(f"profile {profile} has no secret {key}")
        kept.pop(key, None)
        secrets = kept if remove else {**kept, key: value}
        client.call("PUT", f"{PROFILES}/{found['id']}", {**_sendable(found), "secrets": secrets})
    status = "removed" if remove else "kept"
    _done(target, {"profile": profile, "key": key, "status": status}, f"secret {key} of profile {profile} {status}")


@profiles.command()
@target_options
@profile_argument
def delete(target: Target, profile: str) -> None:
    """Remove a profile that nothing uses."""
    with target.client() as client:
        found = _profile(client, profile)
        client.call("DELETE", f"{PROFILES}/{found['id']}")
    document = {"id": found["id"], "name": found["name"], "status": "deleted"}
    _done(target, document, f"profile {found['name']} deleted")


def _profile(client: Client, name: str) -> dict[str, Any]:
    """The profile of that name or id."""
    for one in client.call("GET", PROFILES)["profiles"]:
        if name in (one["name"], one["id"]):
            found: dict[str, Any] = one
            return found
    raise Failure(f"there is no profile {name}. See: gocdnext profiles list")


def _read(file: IO[str] | None) -> dict[str, Any]:
    import orjson

    if file is None:
        return {}
    try:
        document = orjson.loads(file.read(LONGEST + 1))
    except (ValueError, UnicodeDecodeError) as error:
        raise Failure(f"{file.name}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Failure(f"{file.name}: a profile is a JSON object")
    return _sendable(document)


def _sendable(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ANSWERED}


def _kept(found: dict[str, Any]) -> dict[str, str]:
    """The secrets of a profile as they are."""
    return dict.fromkeys(found["secret_keys"], PRESERVE)


def _wanted(body: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The profile with what the options say."""
    if options["description"] is not None:
        body["description"] = options["description"]
    if options["image"] is not None:
        body["default_image"] = options["image"]
    if options["tags"]:
        body["tags"] = list(options["tags"])
    for text in options["envs"]:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--env {text!r}: write NAME=VALUE")
        body["env"] = {**body.get("env", {}), name: value}
    return body


def _done(target: Target, document: dict[str, Any], told: str) -> None:
    if target.as_json:
        print_json(document)
    else:
        click.echo(safe(told, colours=False))
