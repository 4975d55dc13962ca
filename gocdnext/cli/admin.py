"""`admin` and `setup-code`: what is done beside the server, by whoever may touch its database or state directory.

These speak with the database, not with the API: they are the way in while nobody can sign in (design 4).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from gocdnext.cli import beside
from gocdnext.cli.auth_providers import auth_providers
from gocdnext.cli.beside import state_option
from gocdnext.cli.common import Cannot, Failure, print_json
from gocdnext.cli.private import read_secret, secret_options
from gocdnext.cli.retention import retention
from gocdnext.cli.terminal import safe

if TYPE_CHECKING:
    from gocdnext.config import Settings
    from gocdnext.db.pool import Database

T = TypeVar("T")


def database_options(command: Callable[..., object]) -> Callable[..., object]:
    """Adds `--state` and `--database-url`."""
    command = click.option(
        "--database-url",
        metavar="URL",
        help="An external database. Default: GOCDNEXT_DATABASE_URL, else the embedded one. A password belongs into "
        "GOCDNEXT_DATABASE_URL, where others cannot see it.",
    )(command)
    return state_option(command)


@click.group()
def admin() -> None:
    """Accounts from beside the server, without signing in. Works while it runs and while it does not."""


admin.add_command(auth_providers)
admin.add_command(retention)


@admin.command("create-user")
@click.option("--email", required=True)
@click.option("--name", default="", help="Name shown to people.")
@click.option(
    "--role", type=click.Choice(("admin", "maintainer", "user", "viewer")), default="admin", show_default=True
)
@database_options
@secret_options
def create_user(
    email: str,
    name: str,
    role: str,
    state: Path | None,
    database_url: str | None,
    from_file: str | None,
    from_stdin: bool,
) -> None:
    """Make a local account, or give the one there is this role and password."""
    from gocdnext.auth import local_accounts

    settings = beside.settings_of(state)
    password = read_secret("Password", from_file, from_stdin, twice=True)

    async def work(db: Database) -> str:
        made, as_role = await local_accounts.create_or_replace(db, email, name, role, password)
        return f"local user created or rotated {made} (role={as_role})"

    click.echo(safe(_with_database(settings, database_url, work), colours=False))


@admin.command("reset-password")
@click.option("--email", required=True)
@database_options
@secret_options
def reset_password(
    email: str, state: Path | None, database_url: str | None, from_file: str | None, from_stdin: bool
) -> None:
    """Give a local account another password and end its sessions."""
    from gocdnext.auth import local_accounts

    settings = beside.settings_of(state)
    password = read_secret("Password", from_file, from_stdin, twice=True)

    async def work(db: Database) -> str:
        return f"password rotated for {await local_accounts.reset_password(db, email, password)}"

    click.echo(safe(_with_database(settings, database_url, work), colours=False))


@admin.command("rotate-key")
@click.option("--drop-old", is_flag=True, help="Then remove the older keys, unless something still needs them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@database_options
def rotate_key(drop_old: bool, as_json: bool, state: Path | None, database_url: str | None) -> None:
    """Seal everything that is secret in the database with a new key, while the server runs or not.

    A key of the state directory is replaced by a new one; with GOCDNEXT_SECRET_KEY=NEW,OLD everything is sealed with NEW.
    It may be broken off and called again: it goes on where it was. Backups of before need the older keys.
    """
    from gocdnext.secrets import rotation

    settings = beside.settings_of(state)

    async def work(db: Database) -> rotation.Rotated:
        return await rotation.rotate(db, settings, drop_older=drop_old, told=_progress)

    done = _with_database(settings, database_url, work)
    if as_json:
        print_json(done.document())
    else:
        click.echo(done.sentence())
    if done.unreadable:
        named = ", ".join(done.unreadable[:5]) + (" …" if len(done.unreadable) > 5 else "")
        raise Failure(
            f"{len(done.unreadable)} values cannot be opened with any key at hand ({safe(named, colours=False)}): say the "
            "key they were sealed with behind a comma in GOCDNEXT_SECRET_KEY, or set them again"
        )


@admin.command("upgrade-database")
@click.option("--check", is_flag=True, help="Only say whether it could be upgraded.")
@click.option(
    "--old-bindir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="The programs of the PostgreSQL that made the database. Default: what an earlier gocdnext left, or the system's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@state_option
def upgrade_database(check: bool, old_bindir: Path | None, as_json: bool, state: Path | None) -> None:
    """Bring the embedded database to the PostgreSQL of this program, while no server runs on it.

    A minor version needs nothing but a start. For a major one the database is dumped, then copied by pg_upgrade; the old
    data directory is kept. Whatever fails leaves the database as it was.
    """
    from gocdnext.db.upgrade import Upgraded

    settings = beside.settings_of(state)

    async def work() -> Upgraded:
        import trio_asyncio

        from gocdnext.db import statedir, upgrade

        with statedir.open_state(settings.state_dir) as opened:
            async with trio_asyncio.open_loop():
                return await upgrade.upgrade(opened, settings.pg_bindir, old_bindir, check=check, told=_progress)

    if not settings.state_dir.exists():
        raise Cannot(f"there is no state directory {settings.state_dir}: say --state")
    done = beside.run(work)
    if as_json:
        kept = str(done.kept) if done.kept else None
        print_json({"from": done.old, "to": done.new, "changed": done.kept is not None, "kept": kept})
    elif done.old == done.new:
        click.echo(f"PostgreSQL {done.old} is what this program has: there is nothing to upgrade")
    else:
        click.echo(f"PostgreSQL {done.old} can be" if check else f"PostgreSQL {done.old} is", nl=False)
        click.echo(f" upgraded to {done.new}")


def _progress(text: str) -> None:
    click.echo(text, err=True)


@click.command("setup-code")
@state_option
def setup_code(state: Path | None) -> None:
    """Show the code that makes the first admin, once, with POST /auth/setup."""
    from gocdnext.auth import setup
    from gocdnext.db.errors import DatabaseStartError

    settings = beside.settings_of(state)
    try:
        code = setup.shown(settings.state_dir)
    except DatabaseStartError as error:
        raise Cannot(str(error)) from None
    if code is None:
        raise Failure(
            f"there is no set-up code in {settings.state_dir}: either an admin is there already, or no server with "
            "authentication has run on it yet"
        )
    click.echo(code)


def _with_database(settings: Settings, database_url: str | None, work: Callable[[Database], Awaitable[T]]) -> T:
    """Does the work on the server's database. Its errors end the command with a sentence, never with the URL."""
    from gocdnext.db.reach import reach

    async def main() -> T:
        url = database_url or settings.database_url
        async with reach(url, settings.state_dir, settings.pg_bindir) as db:
            return await work(db)

    return beside.run(main)
