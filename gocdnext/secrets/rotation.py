"""`gocdnext admin rotate-key`: a new key for everything that is sealed, beside a server that runs or not (contract-admin 5.1).

It may end anywhere and be begun again. Values under an older key keep opening until `drop_older`, because a server that runs
may seal with the older one for a moment, and backups need it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from gocdnext.config import Settings
from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import ConflictError, NotFoundError
from gocdnext.secrets import keyfiles, sealed
from gocdnext.secrets.resealing import Resealed
from gocdnext.secrets.sealing import Keyring

_SQL = queries.load("secrets")
PASSES = 5
"""How often everything is gone through at most while a running server still seals with the older key."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did. `key` and `older_keys` are ids of keys, which say nothing about them."""

    key: str
    made: bool
    resealed: int
    unreadable: tuple[str, ...]
    older_keys: tuple[str, ...]

    def document(self) -> dict[str, object]:
        """For programs."""
        return {
            "key": self.key,
            "made": self.made,
            "resealed": self.resealed,
            "unreadable": list(self.unreadable),
            "older_keys": list(self.older_keys),
        }

    def sentence(self) -> str:
        """For people."""
        key = f"the new key {self.key}" if self.made else f"the key {self.key}"
        kept = f"; {len(self.older_keys)} older kept for backups, --drop-old removes them" if self.older_keys else ""
        return f"{self.resealed} values sealed anew with {key}{kept}"


async def rotate(db: Database, settings: Settings, *, drop_older: bool, told: Callable[[str], None]) -> Rotated:
    """Seals everything with a new key of the state directory, or with the first of `GOCDNEXT_SECRET_KEY`.

    With `drop_older` no new key is made where a rotation has been: it is finished. Raises ConflictError, NotFoundError,
    StateDirectoryError, DatabaseUnavailableError.
    """
    with contextlib.ExitStack() as stack:
        made = False
        if settings.secret_keys:
            keyring = Keyring(settings.secret_keys)
        else:
            stack.enter_context(keyfiles.alone(settings.state_dir))
            keyring = _of_state(settings)
            pending = await sealed.reseal(db, keyring)
            if pending.done:
                told(f"a rotation that was broken off is finished: {pending.done} values")
            elif not (drop_older and keyring.older):
                keyfiles.rotate(settings.state_dir)
                keyring.look_again()
                made = True
            # Before anything is sealed with it: a server that runs finds the key then.
            await db.execute(_SQL.notify_key_rotated)
        done = await _reseal(db, keyring, told)
        done = done if settings.secret_keys else Resealed(pending.done + done.done, done.unreadable)
        if drop_older:
            _drop(settings, keyring, done)
        older = () if drop_older and not settings.secret_keys else tuple(keyring.older)
        return Rotated(keyring.newest, made, done.done, done.unreadable, older)


def _of_state(settings: Settings) -> Keyring:
    keys = keyfiles.read(settings.state_dir)
    if not keys:
        raise NotFoundError(
            f"there is no key in {settings.state_dir}: say --state, or GOCDNEXT_SECRET_KEY as the server has it"
        )
    return Keyring(keys, lambda: keyfiles.read(settings.state_dir))


async def _reseal(db: Database, keyring: Keyring, told: Callable[[str], None]) -> Resealed:
    """Until a pass finds nothing more."""
    total = 0
    for _ in range(PASSES):
        done = await sealed.reseal(db, keyring, lambda table, one: told(f"{table}: {one.done} sealed anew"))
        total += done.done
        if not done.done:
            break
    return Resealed(total, done.unreadable)


def _drop(settings: Settings, keyring: Keyring, done: Resealed) -> None:
    if settings.secret_keys:
        raise ConflictError("the older keys stand in GOCDNEXT_SECRET_KEY: take them out there and restart the servers")
    if done.unreadable:
        raise ConflictError("the older keys are kept, because something cannot be opened: " + done.unreadable[0])
    keyfiles.drop_older(settings.state_dir)
