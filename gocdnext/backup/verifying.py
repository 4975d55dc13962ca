"""Whether a backup is good: restores it into a scratch directory, compares it with what was backed up, and brings its schema to
this program's. Nothing that is in use is touched."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trio_asyncio

from gocdnext.backup import checking, restoring, taking
from gocdnext.backup.archive import Manifest
from gocdnext.backup.checking import Checked
from gocdnext.backup.errors import DifferentError
from gocdnext.db import cluster, reach, schema, statedir
from gocdnext.db.pool import Connection
from gocdnext.secrets.sealing import key_id


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found to be good."""

    checked: Checked
    schema_after: int
    """The schema that it was brought to."""
    keys: bool | None
    """Whether the keys in it open what is sealed in it; None when there are none, or no passphrase was said."""


async def verify(
    path: Path,
    *,
    scratch: Path | None,
    pg_bindir: Path | None,
    passphrase: str | None,
    now: datetime,
    told: Callable[[str], None],
) -> Verified:
    """Raises ArchiveError, DifferentError, PassphraseError, DatabaseStartError."""
    checked = checking.check(path, told)
    keys = _keys(checked, passphrase)
    with tempfile.TemporaryDirectory(prefix="gocdnext-verify-", dir=scratch) as folder:
        os.chmod(folder, 0o711)  # PostgreSQL's own user has to pass
        with statedir.open_state(Path(folder) / "state") as state:
            statedir.require_space(state.path, checked.header.database_bytes + cluster.FIRST_START_BYTES)
            async with trio_asyncio.open_loop(), reach.embedded(state, pg_bindir) as found:
                version = await restoring.load(found, path, checked, pg_bindir, told)
                await found.db.transaction(lambda conn: _compare_list(conn, checked.manifest))
                applied = await schema.bring_up(found.db, now, dumper=None)
    told(f"the schema was brought from {version} to {version + len(applied)}")
    return Verified(checked, version + len(applied), keys)


def _keys(checked: Checked, passphrase: str | None) -> bool | None:
    """Raises PassphraseError; DifferentError when something is sealed with a key that is not there."""
    if checked.keys is None or passphrase is None:
        return None
    ids = {key_id(key) for key in restoring.opened_keys(checked, passphrase).values()}
    lacking = sorted(set(checked.manifest.sealed_with) - ids)
    if lacking:
        raise DifferentError(
            f"something in the database is sealed with the key {lacking[0]}, which is not in the archive"
        )
    return True


async def _compare_list(conn: Connection, manifest: Manifest) -> None:
    """The blobs that the restored database knows are those that are listed. Raises DifferentError."""
    count = total = 0
    async for listed in taking.blobs_of(conn):
        count += 1
        total += listed.size
    if (count, total) != (manifest.blobs, manifest.blob_bytes):
        raise DifferentError(
            f"the database knows {count} blobs with {total} bytes, and {manifest.blobs} with {manifest.blob_bytes} are listed"
        )
