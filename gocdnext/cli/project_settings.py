"""`notifications`, `labels` and `caches` of projects (contract-admin 6.3, 6.4, 6.6)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from gocdnext.cli.common import Failure, Target, print_json, target_options
from gocdnext.cli.project_group import project_argument
from gocdnext.cli.table import print_rows
from gocdnext.cli.terminal import moment, safe

EVENTS = ("failure", "success", "always", "canceled")
label_arguments = click.argument("labels", metavar="KEY[:VALUE]...", nargs=-1, required=True)


@click.group()
def notifications() -> None:
    """What the pipelines of a project inherit that declare no notifications of their own."""


@notifications.command("list")
@target_options
@project_argument
def list_notifications(target: Target, project: str) -> None:
    """List the notifications of a project, with their numbers."""
    with target.client() as client:
        found = client.call("GET", _path(project, "notifications"))
    if target.as_json:
        print_json(found)
        return
    rows = [
        (str(number), one["on"], one["uses"], _settings(one), ",".join(one.get("secrets", ())) or "-")
        for number, one in enumerate(found["notifications"])
    ]
    print_rows(("number", "on", "uses", "with", "secrets"), rows, folded=("uses", "with", "secrets"))


@notifications.command("add")
@target_options
@project_argument
@click.option("--on", type=click.Choice(EVENTS), required=True, help="When it is sent.")
@click.option(
    "--uses", metavar="PLUGIN", required=True, help="The plugin that sends it, for example gocdnext/slack@v1."
)
@click.option(
    "--with", "settings", metavar="NAME=VALUE", multiple=True, help="A setting of the plugin; may be repeated."
)
@click.option("--secret", "secrets", metavar="NAME", multiple=True, help="A secret that it needs; may be repeated.")
def add_notification(
    target: Target, project: str, on: str, uses: str, settings: tuple[str, ...], secrets: tuple[str, ...]
) -> None:
    """Add a notification. Runs that are made from now on have it.

    A secret is given by its name, never by its value; in a setting, ${{ NAME }} stands for it.
    """
    entry = {"on": on, "uses": uses, "with": dict(map(_setting, settings)), "secrets": list(secrets)}
    with target.client() as client:
        kept = client.call("GET", _path(project, "notifications"))["notifications"]
        client.call("PUT", _path(project, "notifications"), {"notifications": [*kept, entry]})
    _done(target, entry, f"notification {len(kept)} of {project} is sent on {on}")


@notifications.command("rm")
@target_options
@project_argument
@click.argument("number", type=click.IntRange(0))
def remove_notification(target: Target, project: str, number: int) -> None:
    """Remove the notification with this number."""
    with target.client() as client:
        kept = client.call("GET", _path(project, "notifications"))["notifications"]
        if number >= len(kept):
            raise Failure(f"{project} has no notification {number}. See: gocdnext notifications list {project}")
        gone = kept.pop(number)
        client.call("PUT", _path(project, "notifications"), {"notifications": kept})
    _done(target, gone, f"notification {number} of {project} removed")


@click.group()
def labels() -> None:
    """Labels of projects."""


@labels.command("list")
@target_options
@project_argument
def list_labels(target: Target, project: str) -> None:
    """List the labels of a project."""
    with target.client() as client:
        found = client.call("GET", _path(project, "labels"))
    if target.as_json:
        print_json(found)
        return
    print_rows(("key", "value"), [(one["key"], one["value"] or "-") for one in found["labels"]])


@labels.command("add")
@target_options
@project_argument
@label_arguments
def add_labels(target: Target, project: str, labels: tuple[str, ...]) -> None:
    """Add labels. The same key may have several values."""
    with target.client() as client:
        kept = client.call("GET", _path(project, "labels"))["labels"]
        _set_labels(target, client, project, [*kept, *map(_label, labels)])


@labels.command("set")
@target_options
@project_argument
@click.argument("labels", metavar="[KEY[:VALUE]]...", nargs=-1)
def set_labels(target: Target, project: str, labels: tuple[str, ...]) -> None:
    """Replace all labels by these; without any, remove them all."""
    with target.client() as client:
        _set_labels(target, client, project, list(map(_label, labels)))


@labels.command("rm")
@target_options
@project_argument
@label_arguments
def remove_labels(target: Target, project: str, labels: tuple[str, ...]) -> None:
    """Remove labels: KEY:VALUE the one, KEY all of that key."""
    with target.client() as client:
        kept = client.call("GET", _path(project, "labels"))["labels"]
        named = {f"{one['key']}:{one['value']}" for one in kept} | {one["key"] for one in kept}
        for label in labels:
            if label not in named:
                raise Failure(f"{project} has no label {label}. See: gocdnext labels list {project}")
        left = [one for one in kept if not {one["key"], f"{one['key']}:{one['value']}"} & set(labels)]
        _set_labels(target, client, project, left)


@click.group()
def caches() -> None:
    """Caches that the jobs of a project keep."""


@caches.command("list")
@target_options
@project_argument
def list_caches(target: Target, project: str) -> None:
    """List the caches of a project, the one used last first."""
    with target.client() as client:
        found = client.call("GET", _path(project, "caches"))
    if target.as_json:
        print_json(found)
        return
    rows = [
        (one["id"], one["key"], str(one["size_bytes"]), one["status"], moment(one["last_accessed_at"]))
        for one in found["caches"]
    ]
    print_rows(("id", "key", "bytes", "status", "last used"), rows, folded=("key",))


@caches.command("rm")
@target_options
@project_argument
@click.argument("cache", metavar="KEY|ID")
def remove_cache(target: Target, project: str, cache: str) -> None:
    """Remove a cache: the next job that asks for it begins anew. Only administrators may do this."""
    with target.client() as client:
        all_of_it = client.call("GET", _path(project, "caches"))["caches"]
        found = [one for one in all_of_it if cache == one["key"] or (len(cache) > 3 and one["id"].startswith(cache))]
        if not found:
            raise Failure(f"{project} has no cache {cache}. See: gocdnext caches list {project}")
        for one in found:
            client.call("DELETE", f"{_path(project, 'caches')}/{one['id']}")
    for one in found:
        _done(target, {"id": one["id"], "key": one["key"], "status": "removed"}, f"cache {one['key']} removed")


def _path(project: str, what: str) -> str:
    return f"/api/v1/projects/{quote(project, safe='')}/{what}"


def _settings(entry: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in entry.get("with", {}).items()) or "-"


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--with {text!r}: write NAME=VALUE")
    return name, value


def _label(text: str) -> dict[str, str]:
    key, _, value = text.partition(":")
    return {"key": key, "value": value}


def _set_labels(target: Target, client: Any, project: str, wanted: list[dict[str, str]]) -> None:
    client.call("PUT", _path(project, "labels"), {"labels": wanted})
    found = client.call("GET", _path(project, "labels"))
    told = ", ".join(f"{one['key']}:{one['value']}" if one["value"] else one["key"] for one in found["labels"])
    _done(target, found, f"{project}: {told or 'no labels'}")


def _done(target: Target, document: dict[str, Any], told: str) -> None:
    if target.as_json:
        print_json(document)
    else:
        click.echo(safe(told, colours=False))
