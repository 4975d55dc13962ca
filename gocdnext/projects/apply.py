"""Apply: a set of pipeline files becomes a project (contract-runs 2.4, spec-pipelines 6).

Order of checks as in the contract; the first failure wins and nothing is stored. The transaction is in `store`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
import trio

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.errors import DomainError, InvalidError, UnavailableError, UnprocessableError, UpstreamError
from gocdnext.materials import folders, git
from gocdnext.materials.remotes import Remotes, Repository
from gocdnext.pipeline import ParsedFile, PipelineError, Problem, check_set, parse_files
from gocdnext.pipeline.fingerprints import normal_git_url
from gocdnext.pipeline.plugins import check_plugins
from gocdnext.plugins.catalogue import NO_PLUGINS, Catalogue
from gocdnext.projects import limits, supported
from gocdnext.projects.request import ApplyRequest, ScmSource, SourceText
from gocdnext.projects.store import PipelineFile, Reading, Source, Stored, Wanted, store
from gocdnext.secrets.sealing import Keyring

PROVIDERS = ("github", "gitlab", "bitbucket", "manual")
DEFAULT_BRANCH = "main"
DEFAULT_FOLDER = ".gocdnext"
MAX_WEBHOOK_SECRET = 256
"""Characters."""
MIN_TIMEOUT = 1.0
"""Seconds that a repository gets in any case for a second question."""
MAX_TOLD = 20
"""Problems of files that one answer lists."""

_CONFIGS = queries.load("configs")
_LOG = structlog.get_logger("configs")
_UNDERSTOOD = frozenset({"name_reserved", "deploy_target"})
"""Kinds of problems that are no mistake in a file: it is understood and refused (422)."""
_PARSING = trio.CapacityLimiter(1)
"""Reading YAML is work for one core; a second apply waits for the first, the server does not wait for either."""


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What was stored, and what the caller should know."""

    stored: Stored
    warnings: tuple[str, ...]
    revision: str = ""
    """The commit of the repository that the files were read from, if they were."""


async def apply(
    db: Database,
    request: ApplyRequest,
    *,
    now: datetime,
    new_id: Callable[[], UUID],
    remotes: Remotes | None = None,
    catalogue: Catalogue = NO_PLUGINS,
    keyring: Keyring | None = None,
) -> ApplyResult:
    """Makes the project what the request says; with a keyring a bound repository gets a webhook secret. `remotes` are for
    requests without files. Raises InvalidError, UnprocessableError, UpstreamError, UnavailableError.

    Inputs of plugins are checked against the catalogue in files that were sent, not in files that are fetched
    (contract-runs 7.3).
    """
    files = await _parsed(request.files, catalogue)
    source = None if request.scm_source is None else _source(request.scm_source)
    warnings = list(request.warnings)
    reading: Reading | None = None
    if source is not None and not files:
        if remotes is None:
            raise UnavailableError("server has no config fetcher wired")
        repository, path = await _to_be_read(db, request, source)
        found = await fetched(remotes, repository, source.default_branch, path)
        files, reading = found.files, found.reading
        warnings += found.warnings
    _check(files)
    wanted = Wanted(
        slug=request.slug,
        name=request.name,
        description=request.description,
        config_repo=request.config_repo,
        config_path=request.config_path,
        pipelines=files,
        source=source,
        reading=reading,
    )
    stored = await db.transaction(lambda conn: store(conn, wanted, now, new_id, keyring))
    return ApplyResult(stored, tuple(dict.fromkeys(warnings)), "" if reading is None else reading.revision)


async def _parsed(files: Sequence[SourceText], catalogue: Catalogue) -> tuple[PipelineFile, ...]:
    """The pipelines of the files, in their order. Raises InvalidError with file and line, UnprocessableError."""
    if not files:
        return ()
    try:
        parsed, refusals = await trio.to_thread.run_sync(_parse, files, catalogue, limiter=_PARSING)
    except PipelineError as error:
        raise _refused(InvalidError, error.problems) from None
    if refusals:
        understood = all(problem.kind in _UNDERSTOOD for problem in refusals)
        raise _refused(UnprocessableError if understood else InvalidError, refusals)
    places = {name: place for place, (name, _) in enumerate(files)}
    parsed.sort(key=lambda file: places[file.filename])
    return tuple(PipelineFile(file.pipeline, file.filename, file.source) for file in parsed)


def _parse(files: Sequence[SourceText], catalogue: Catalogue) -> tuple[list[ParsedFile], list[Problem]]:
    parsed = parse_files(files)
    misfits = [
        problem for file in parsed for problem in check_plugins(file.pipeline, file.filename, catalogue, file.source)
    ]
    return parsed, [*misfits, *check_set(parsed)]


def _refused(kind: type[DomainError], problems: Sequence[Problem]) -> DomainError:
    """The first problem as the message, all of them as details: the caller shows what it can."""
    return kind(str(problems[0]), details=tuple(problems))


def _source(given: ScmSource) -> Source:
    """The repository to bind. Raises InvalidError, UnprocessableError."""
    if not given.url.strip() or not given.provider.strip():
        raise InvalidError("scm_source.url and scm_source.provider are required")
    url = given.url.strip()
    branch = given.default_branch.strip() or DEFAULT_BRANCH
    try:
        git.check_url(url)
        git.check_branch(branch)
    except git.GitError as error:
        raise InvalidError(f"scm_source: {error}") from None
    if git.has_credentials(url):
        raise InvalidError(
            "scm_source.url must not contain a user name or password: it is shown to every viewer of the project"
        )
    if given.provider not in PROVIDERS:
        raise UnprocessableError(
            f"scm_source.provider {given.provider[:40]!r} is not known: use one of {', '.join(PROVIDERS)}"
        )
    if len(given.webhook_secret) > MAX_WEBHOOK_SECRET:
        raise InvalidError(f"scm_source.webhook_secret is longer than {MAX_WEBHOOK_SECRET} characters")
    return Source(given.provider, normal_git_url(url), url, branch, given.auth_ref, given.webhook_secret)


async def _to_be_read(db: Database, request: ApplyRequest, source: Source) -> tuple[Repository, str]:
    """The repository, and the folder in it: what the request says, else what is stored."""
    row = await db.fetchrow(_CONFIGS.bound, request.slug)
    path = request.config_path or (DEFAULT_FOLDER if row is None else row["config_path"])
    if row is None:
        return Repository(source.provider, source.clone_url, token=source.auth_ref), path
    # What was kept stays (upsert_scm_source), but it is not shown to another repository than it was given for.
    kept = row["auth_ref"] if row["url"] == source.url else ""
    return Repository(source.provider, source.clone_url, row["project_id"], source.auth_ref or kept), path


@dataclass(frozen=True, slots=True)
class Fetched:
    """The pipelines of a folder in a repository."""

    files: tuple[PipelineFile, ...]
    reading: Reading | None
    warnings: tuple[str, ...] = ()


async def fetched(
    remotes: Remotes,
    repository: Repository,
    branch: str,
    path: str,
    *,
    timeout: float = folders.FETCH_TIMEOUT,
    prefix: str = "",
    commit: str = "",
) -> Fetched:
    """The pipelines in the folder at the head of a branch, or at a `commit` that the branch has moved on from; one that is
    not there is a warning. `prefix` is how an error begins (contract-runs 2.4, 2.5). Raises UpstreamError, BrokenError."""
    try:
        found = await _folder(remotes, repository, branch, path, timeout, commit)
    except folders.FolderMissingError as error:
        reading = Reading(error.revision) if error.revision else None
        return Fetched((), reading, (f"{error}: the project has no pipelines",))
    except git.GitError as error:
        where = git.without_credentials(repository.clone_url)
        begin = prefix or f"fetch {path}/ from repo"
        raise UpstreamError(f"{begin}: {where}, branch {branch!r}: {error}") from None
    warnings = (
        ()
        if found.files
        else (f"the folder {path!r} of the repository has no YAML files: the project has no pipelines",)
    )
    return Fetched(await understood(found, path), Reading(found.revision), warnings)


async def _folder(
    remotes: Remotes, repository: Repository, branch: str, path: str, timeout: float, commit: str
) -> folders.Folder:
    """The branch first: most pushes are its head, and a commit that was taken away may not be had any more. Raises
    FolderMissingError, GitError."""
    deadline = trio.current_time() + timeout
    missing: folders.FolderMissingError | None = None
    found: folders.Folder | None = None
    try:
        found = await remotes.folder(repository, branch, path, timeout=timeout)
        head = found.revision
    except folders.FolderMissingError as error:
        missing, head = error, error.revision
    if commit and head != commit:
        try:
            left = max(deadline - trio.current_time(), MIN_TIMEOUT)
            return await remotes.folder_at(repository, commit, path, timeout=left)
        except folders.FolderMissingError:
            raise
        except git.GitError as error:
            _LOG.info(
                "a pushed commit is not to be had, the head of its branch counts", commit=commit, reason=str(error)
            )
    if found is None:
        assert missing is not None
        raise missing
    return found


class BrokenError(UnprocessableError):
    """The files of a repository are no configuration; `revision` is the commit that has them."""

    def __init__(self, message: str, revision: str, *, details: object = None) -> None:
        super().__init__(message, details=details)
        self.revision = revision


async def understood(folder: folders.Folder, path: str, catalogue: Catalogue = NO_PLUGINS) -> tuple[PipelineFile, ...]:
    """The pipelines of files that were read; inputs of plugins are checked only with a catalogue (7.3). Raises
    BrokenError."""
    try:
        files = await _parsed([_text(file) for file in folder.files], catalogue)
        _check(files)
    except (InvalidError, UnprocessableError) as error:
        raise BrokenError(f"parse remote {path}/: {error}", folder.revision, details=error.details) from None
    return files


def _text(file: folders.RemoteFile) -> SourceText:
    try:
        content = file.content.decode()
    except UnicodeDecodeError as error:
        raise InvalidError(f"{file.name}: not UTF-8 at byte {error.start}") from None
    if "\0" in content:
        raise InvalidError(f"{file.name}: the file contains a NUL byte")
    return SourceText(file.name, content)


def _check(files: tuple[PipelineFile, ...]) -> None:
    """What this version cannot store or run. Raises InvalidError, UnprocessableError."""
    for entry in files:
        if found := limits.unstorable(entry.pipeline):
            raise InvalidError(f"{entry.file}: {found}")
    refused = [f"{entry.file}: {reason}" for entry in files for reason in supported.refused(entry.pipeline)]
    if refused:
        raise UnprocessableError("\n".join(refused[:MAX_TOLD]))
