"""A project's configuration is read anew from its repository: when somebody asks, after a push, after a failure (9.1, 2.5).

What cannot be read, or is broken, leaves the last good definition in force and is told with the project. A reading that was
overtaken by a newer one stores nothing. No database connection is held while a repository is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import structlog
import trio

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import ConflictError, DomainError, NotFoundError, UnprocessableError, UpstreamError
from gocdnext.materials import folders, git
from gocdnext.materials.arrivals import Arrival
from gocdnext.materials.remotes import Remotes, Repository
from gocdnext.materials.webhooks.drift import RULE, Drift, Proposed, together
from gocdnext.materials.webhooks.events import BranchPush, Request
from gocdnext.materials.webhooks.trace import Trace
from gocdnext.pipeline.fingerprints import normal_git_url
from gocdnext.plugins.catalogue import NO_PLUGINS, Catalogue
from gocdnext.projects import proposals
from gocdnext.projects.apply import ApplyResult, BrokenError, fetched
from gocdnext.projects.store import OvertakenError, Reading, Wanted, store
from gocdnext.runs.turns import Turns
from gocdnext.secrets.sealing import Keyring

_SQL = queries.load("configs")
_LOG = structlog.get_logger("configs")
PUSH_WAIT = 8.0
"""Seconds that a delivery waits for a repository; providers wait ten (17.3)."""
REST = timedelta(seconds=30)
"""How long a repository that did not answer is not asked for further pushes."""
TRIES = 3
"""Readings that others may overtake."""
MAX_ERROR = 2000
"""Characters of an error that are kept."""
MAX_CHANGED = 1000
"""Changed files of a push that are compared; of a larger one nobody says that it left the configuration alone."""
NO_SOURCE = "project has no scm_source bound — connect a repo first"


class Configs:
    """Configurations in repositories. Trio side; every method may raise DatabaseUnavailableError."""

    def __init__(
        self,
        db: Database,
        remotes: Remotes,
        *,
        keyring: Keyring | None,
        catalogue: Catalogue = NO_PLUGINS,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
        resolved: Callable[[str, float], None],
    ) -> None:
        self.remotes = remotes
        self._resolved = resolved
        self._db = db
        self._keyring = keyring
        self._catalogue = catalogue
        self._clock = clock
        self._new_id = new_id
        self._turns = Turns()

    async def sync(self, slug: str) -> ApplyResult:
        """Applies what the repository has now; a folder that is not there is a project without pipelines (2.5).

        Raises NotFoundError, ConflictError (nothing is bound), UpstreamError, UnprocessableError.
        """
        row = await self._bound(slug)
        async with self._turns.of(row["source_id"]):
            return await self._read(slug, folders.FETCH_TIMEOUT, missing_is_meant=True)

    async def sync_if_bound(self, slug: str) -> tuple[UUID, ApplyResult | None]:
        """The project's id, and `sync` unless nothing is bound to it but its git materials can be looked at. Raises as
        `sync` does."""
        row = await self._db.fetchrow(_SQL.bound, slug)
        if row is None:
            raise NotFoundError("project not found")
        if row["source_id"] is None and await self._db.fetchval(_SQL.has_git_material, row["project_id"]):
            return row["project_id"], None
        return row["project_id"], await self.sync(slug)

    async def pushed(self, push: BranchPush, trace: Trace) -> Drift | None:
        """The configuration of every project bound to the repository, as far as the push may have changed it."""
        told = push.straight and push.changed is not None and len(push.changed) <= MAX_CHANGED
        changed = sorted(push.changed or ()) if told else None
        url = normal_git_url(push.url)
        rows = await self._db.fetch(_SQL.pushed, url, push.branch, push.revision, push.before, changed)
        deadline = trio.current_time() + PUSH_WAIT
        drifts = [await self._pushed_one(row, push, deadline, trace) for row in rows]
        return together([drift for drift in drifts if drift is not None])

    async def changed_files(self, request: Request, trace: Trace) -> frozenset[str] | None:
        """The files that a pull request of GitHub changes, as GitHub says (8.4); None when they are not known."""
        for row in await self._db.fetch(_SQL.bindings, normal_git_url(request.url)):
            repository = Repository(row["provider"], row["clone_url"], row["project_id"], row["auth_ref"])
            try:
                found = await self.remotes.changed_files(repository, request.number)
            except (DomainError, git.GitError) as error:
                trace.passed("changed files", f"{row['slug']}: they are not known: {error}")
                continue
            if found is not None:
                trace.passed("changed files", f"GitHub tells {len(found)} files")
                return found
        return None

    async def proposed(self, request: Request, arrivals: Sequence[Arrival], trace: Trace) -> Proposed:
        """What a pull request's own configuration means for the runs that it asks for (8.7)."""
        return await proposals.proposed(
            self._db,
            self.remotes,
            self._catalogue,
            request,
            arrivals,
            trace,
            now=self._clock(),
            new_id=self._new_id,
            resolved=self._resolved,
        )

    async def read_again(self, limit: int) -> int:
        """Those whose repository did not answer, after a pause that grows; how many were tried."""
        rows = await self._db.fetch(_SQL.to_read_again, self._clock(), limit)
        for row in rows:
            try:
                bound = await self._bound(row["slug"])
                async with self._turns.of(bound["source_id"]):
                    await self._read(row["slug"], folders.FETCH_TIMEOUT)
            except DomainError as error:
                _LOG.warning("a configuration still cannot be read", project=row["slug"], reason=str(error))
        return len(rows)

    async def _pushed_one(self, row: asyncpg.Record, push: BranchPush, deadline: float, trace: Trace) -> Drift | None:
        slug = row["slug"]
        if not self.remotes.may_be_asked(row["clone_url"]):
            trace.passed(RULE, f"{slug}: the server is offline, the configuration is not read")
            return None
        if row["seen"] or row["untouched"]:
            why = "was read before" if row["seen"] else "is not among the files that changed"
            return _standing(row["sync_error"], push.revision, f"{slug}: the configuration of this commit {why}", trace)
        if row["sync_failures"] and self._clock() - row["sync_failed_at"] < REST:
            error = f"{row['sync_error']} (it is tried again in a moment)"
            return _standing(error, push.revision, "", trace)
        try:
            with trio.CancelScope(deadline=deadline) as patience:
                bound = await self._bound(slug)
                async with self._turns.of(bound["source_id"]):
                    # From here on everything has a bound of its own.
                    left, patience.deadline = deadline - trio.current_time(), float("inf")
                    return await self._drift(slug, push, max(left, 1.0), trace)
            error = "the repository is being read for another push, which takes too long"
        except DomainError as problem:
            error = str(problem)
        return _standing(error, push.revision, "", trace)

    async def _drift(self, slug: str, push: BranchPush, timeout: float, trace: Trace) -> Drift:
        """Reads for one project whose turn it is: what was pushed, if it follows what is in force; else what the branch has
        now, because a delivery that comes late must not bring an old configuration back. Raises DomainError."""
        row = await self._bound(slug)
        if row["seen_revision"] == push.revision:
            said = f"{slug}: the configuration of this commit was read for another delivery"
            return _standing(row["sync_error"], push.revision, said, trace) or Drift(True, "", push.revision)
        result = await self._read(slug, timeout, push=push)
        revision = result.revision or push.revision
        stored = result.stored
        moved = "" if revision == push.revision else f" of {revision[:12]}, which is what the branch is at by now"
        trace.passed(
            RULE,
            f"{slug}: applied {len(stored.pipelines)} pipelines{moved}, removed {len(stored.removed)}",
        )
        return Drift(True, "", revision)

    async def _read(
        self, slug: str, timeout: float, *, missing_is_meant: bool = False, push: BranchPush | None = None
    ) -> ApplyResult:
        """Reads and stores; notes with the source how it went. Raises NotFoundError, ConflictError, UpstreamError,
        UnprocessableError."""
        for _ in range(TRIES):
            row = await self._bound(slug)
            try:
                return await self._read_once(row, timeout, missing_is_meant, _following(row, push))
            except OvertakenError:
                continue
            except BrokenError as error:
                await self._db.execute(
                    _SQL.broken, row["source_id"], error.revision, str(error)[:MAX_ERROR], row["sync_count"]
                )
                _LOG.warning("the configuration in a repository is broken", project=slug, reason=str(error))
                raise
            except UpstreamError as error:
                said = str(error)[:MAX_ERROR]
                await self._db.execute(_SQL.unreadable, row["source_id"], said, self._clock(), row["sync_count"])
                _LOG.warning("the configuration of a project cannot be read", project=slug, reason=str(error))
                raise
        raise ConflictError("the configuration was changed by others while it was read, several times: try again")

    async def _read_once(self, row: asyncpg.Record, timeout: float, missing_is_meant: bool, commit: str) -> ApplyResult:
        """Raises OvertakenError besides."""
        repository = Repository(row["provider"], row["clone_url"], row["project_id"], row["auth_ref"])
        path = row["config_path"]
        found = await fetched(
            self.remotes,
            repository,
            row["default_branch"],
            path,
            timeout=timeout,
            prefix="fetch from repo",
            commit=commit,
        )
        revision = "" if found.reading is None else found.reading.revision
        if not found.files and not missing_is_meant:
            # After a push this is a mistake more often than a wish, and a costly one (9.1).
            raise BrokenError(
                f"there are no pipeline files in {path!r} any more: sync the project to remove all", revision
            )
        wanted = Wanted(
            slug=row["slug"],
            name=row["name"],
            description=row["description"],
            config_repo=row["config_repo"],
            config_path="",
            pipelines=found.files,
            source=None,
            reading=Reading(revision, row["sync_count"]) if revision else None,
        )
        now = self._clock()
        try:
            stored = await self._db.transaction(lambda conn: store(conn, wanted, now, self._new_id, self._keyring))
        except UnprocessableError as error:
            raise BrokenError(f"resolve profiles: {error}", revision, details=error.details) from None
        return ApplyResult(stored, found.warnings, revision)

    async def _bound(self, slug: str) -> asyncpg.Record:
        """The project with its source. Raises NotFoundError, ConflictError."""
        row = await self._db.fetchrow(_SQL.bound, slug)
        if row is None:
            raise NotFoundError("project not found")
        if row["source_id"] is None:
            raise ConflictError(NO_SOURCE)
        return row


def _following(row: asyncpg.Record, push: BranchPush | None) -> str:
    """The commit of a push that is the next one after what is in force; empty: nobody knows which is newer."""
    if push is None or not push.before or push.before != row["seen_revision"] or not git.is_commit(push.revision):
        return ""
    return push.revision


def _standing(error: str | None, revision: str, said: str, trace: Trace) -> Drift | None:
    """What was in force stays: without a drift to tell of, or because of an error."""
    if error:
        trace.passed(RULE, f"the last good configuration stays in force: {error}")
        return Drift(False, error, revision)
    trace.passed(RULE, said)
    return None
