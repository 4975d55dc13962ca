"""`backup`, `backup verify` and `restore`: beside the server, by whoever may touch its database and state directory.

A passphrase comes from a file, from GOCDNEXT_BACKUP_PASSPHRASE or from the keyboard, never from an argument.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from gocdnext.cli import beside
from gocdnext.cli.beside import state_option
from gocdnext.cli.common import Failure, print_json
from gocdnext.cli.private import read_secret
from gocdnext.cli.terminal import safe

if TYPE_CHECKING:
    from gocdnext.backup.taking import Taken
    from gocdnext.blobs.store import BlobStore
    from gocdnext.config import Settings

T = TypeVar("T")
PASSPHRASE = "GOCDNEXT_BACKUP_PASSPHRASE"
NICENESS = 10
"""So much a backup steps back for the server beside it."""
MIB = 2**20

archive_argument = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
passphrase_option = click.option(
    "--passphrase-file",
    metavar="PATH",
    help=f"File with the passphrase of the keys; - is stdin. Default: {PASSPHRASE}, else it is asked for.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _Group(click.Group):
    """`backup FILE` is `backup create FILE`, as long as FILE is no command of the group."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = next((each for each in args if not each.startswith("-")), None)
        if args and first not in self.commands and not set(args) & {"-h", "--help"}:
            args = ["create", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group)
def backup() -> None:
    """Back up a server while it runs: `gocdnext backup FILE`. Prove a backup: `gocdnext backup verify FILE`."""


@backup.command()
@archive_argument
@click.option(
    "--blobs",
    type=click.Choice(("content", "list")),
    default="content",
    show_default=True,
    help="Artifacts, caches and archived logs themselves, or only what there is of them.",
)
@click.option("--with-keys", is_flag=True, help="Put the server's keys in, sealed with a passphrase.")
@passphrase_option
@state_option
@json_option
def create(
    file: Path, blobs: str, with_keys: bool, passphrase_file: str | None, state: Path | None, as_json: bool
) -> None:
    """Write database and blobs of a server into FILE, while it runs or not.

    With GOCDNEXT_DATABASE_URL the database is that one. Without --with-keys no key is in FILE, and without the keys nobody
    can open the secrets in it: keep them in another place.
    """
    from gocdnext.backup import keys, sealing, taking
    from gocdnext.backup.errors import PassphraseError

    settings = beside.settings_of(state)
    if blobs == "content" and settings.artifacts_s3 is not None:
        raise Failure("blobs are in an S3 bucket: copy the bucket by its own means, and say --blobs list here")
    _require_state(settings)
    passphrase = _passphrase(passphrase_file, twice=True) if with_keys else None
    if with_keys and passphrase is None:
        raise click.UsageError(f"--with-keys needs a passphrase: --passphrase-file or {PASSPHRASE}")
    if passphrase is not None:
        try:
            sealing.require_good(passphrase)
        except PassphraseError as error:
            raise Failure(str(error)) from None
    os.nice(NICENESS)
    target = file.absolute()

    async def work() -> Taken:
        from gocdnext.db import reach

        wanted = taking.Wanted(blobs == "content", keys.of(settings) if with_keys else {}, passphrase or "")
        async with reach.as_it_is(settings.database_url, settings.state_dir, settings.pg_bindir) as found:
            return await taking.take(
                found,
                _store(settings),
                target,
                wanted,
                pg_bindir=settings.pg_bindir,
                now=datetime.now(UTC),
                told=_told,
            )

    taken = _run(work)
    manifest = taken.manifest
    if manifest.missing or manifest.damaged:
        _told(f"warning: {manifest.missing} blobs are not in the store and {manifest.damaged} are not what they were")
    if as_json:
        print_json(
            {
                "file": str(taken.path),
                "bytes": taken.size,
                "schema": taken.header.schema,
                "postgres": taken.header.postgres,
                "rows": sum(table.rows for table in manifest.tables.values()),
                "blobs": manifest.blobs,
                "blob_bytes": manifest.blob_bytes,
                "blob_contents": taken.header.blobs == "content",
                "blobs_missing": manifest.missing,
                "blobs_damaged": manifest.damaged,
                "keys": taken.has_keys,
                "sealed_with": manifest.sealed_with,
            }
        )
        return
    click.echo(f"{taken.path}: {taken.size // MIB} MiB, {_about_keys(taken)}")


@backup.command()
@archive_argument
@click.option(
    "--scratch",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Where it is restored for a moment. Default: the temporary directory.",
)
@passphrase_option
@json_option
def verify(file: Path, scratch: Path | None, passphrase_file: str | None, as_json: bool) -> None:
    """Prove that FILE can be restored: check every checksum, restore it into a scratch directory, compare all tables.

    With a passphrase the keys in it are tried too. Nothing that is in use is touched.
    """
    from gocdnext.backup import verifying

    settings = beside.settings_of(None)
    passphrase = _passphrase(passphrase_file, ask=False)
    os.nice(NICENESS)
    done = _run(
        lambda: verifying.verify(
            file,
            scratch=scratch,
            pg_bindir=settings.pg_bindir,
            passphrase=passphrase,
            now=datetime.now(UTC),
            told=_told,
        )
    )
    header, manifest = done.checked.header, done.checked.manifest
    rows = sum(table.rows for table in manifest.tables.values())
    if as_json:
        print_json(
            {
                "file": str(file),
                "bytes": done.checked.size,
                "version": header.version,
                "created_at": header.created_at,
                "schema": header.schema,
                "schema_after": done.schema_after,
                "postgres": header.postgres,
                "rows": rows,
                "blobs": manifest.blobs,
                "blob_contents": header.blobs == "content",
                "blobs_missing": manifest.missing,
                "blobs_damaged": manifest.damaged,
                "keys": done.checked.keys is not None,
                "keys_fit": done.keys,
            }
        )
        return
    keys = {True: "its keys fit", None: "its keys were not tried" if done.checked.keys else "no keys in it"}
    click.echo(safe(f"{file} is good: {rows} rows, {manifest.blobs} blobs, {keys[done.keys]}", colours=False))


@click.command()
@archive_argument
@click.option("--without-keys", is_flag=True, help="Leave out the keys that are in it.")
@passphrase_option
@state_option
@json_option
def restore(file: Path, without_keys: bool, passphrase_file: str | None, state: Path | None, as_json: bool) -> None:
    """Restore FILE into an empty state directory, or with GOCDNEXT_DATABASE_URL into an empty database.

    FILE is what `gocdnext backup` wrote, or a dump of the database from before an upgrade (`dumps/` of the state directory):
    such a dump takes the place of a database that was moved away, and leaves keys and blobs alone.
    """
    from gocdnext.backup import restoring

    settings = beside.settings_of(state)
    place = restoring.Place(settings.database_url, settings.state_dir, settings.pg_bindir, lambda: _store(settings))
    asked = None if without_keys else lambda: _passphrase(passphrase_file)
    done = _run(lambda: restoring.restore(file, place, passphrase=asked, told=_told))
    if as_json:
        print_json(
            {
                "schema": done.schema,
                "rows": done.rows,
                "blobs": done.blobs,
                "keys": list(done.keys),
                "sealed_with": list(done.sealed_with),
            }
        )
    else:
        where = "the database" if settings.database_url else str(settings.state_dir)
        click.echo(
            safe(f"restored into {where}: schema {done.schema}, {done.rows} rows, {done.blobs} blobs", colours=False)
        )
    if done.sealed_with and "secrets" not in done.keys and not settings.secret_keys:
        _told(
            f"secrets in it are sealed with the key {', '.join(done.sealed_with)}, which was not restored: put secrets.key "
            f"into {settings.state_dir} (mode 0400), or set GOCDNEXT_SECRET_KEY, before the server starts"
        )


def _about_keys(taken: Taken) -> str:
    if taken.has_keys:
        return "with its keys, sealed"
    if not taken.manifest.sealed_with:
        return "without keys, and nothing in it needs one"
    return f"without keys: what is secret in it needs the key {', '.join(taken.manifest.sealed_with)}"


def _passphrase(file: str | None, *, twice: bool = False, ask: bool = True) -> str | None:
    """From the file, the environment, or the keyboard; None when there is none of them."""
    if file is None and (said := os.environ.get(PASSPHRASE)):
        return said
    if file is None and not (ask and sys.stdin.isatty()):
        return None
    return read_secret("Passphrase", file, False, twice=twice)


def _store(settings: Settings) -> BlobStore:
    from gocdnext.blobs.filesystem import FilesystemStore

    return FilesystemStore(settings.artifacts_root, min_free=0)


def _require_state(settings: Settings) -> None:
    """A backup never makes the database that it is to back up."""
    from gocdnext.db import cluster

    state = settings.state_dir
    if settings.database_url is not None:
        return
    if not state.exists():
        raise Failure(f"there is no state directory {state}: say --state, or GOCDNEXT_DATABASE_URL")
    # Of another user's directory nothing can be seen; that is said when it is opened.
    if state.stat().st_uid == os.geteuid() and cluster.data_major(state / "pg") is None:
        raise Failure(f"there is no database in {state}: say --state, or GOCDNEXT_DATABASE_URL")


def _told(text: str) -> None:
    click.echo(safe(text, colours=False), err=True)


def _run(work: Callable[[], Awaitable[T]]) -> T:
    """What is repeated of an error may come from an archive: it is one line, and safe to show."""
    return beside.run(work, sentence=lambda error: safe(str(error).replace("\n", " "), colours=False))
