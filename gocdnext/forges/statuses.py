"""How a run stands, in each provider's words, and telling it (contract-admin 8.9). Which run and when: see `reporter`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from gocdnext.errors import DomainError
from gocdnext.forges.accounts import Account
from gocdnext.forges.errors import ProviderError, checked, number

BOTH, CHECK_RUN, COMMIT_STATUS = "both", "check_run", "commit_status"
MODES: Final = (BOTH, CHECK_RUN, COMMIT_STATUS)
MAX_DESCRIPTION = 140
MAX_CONTEXT = 255
MAX_KEY = 40
"""Characters of Bitbucket's key of a status."""
MAX_CHECKS = 100
_log = structlog.get_logger("forges")

_CONCLUSIONS = {"success": "success", "failed": "failure", "canceled": "cancelled", "skipped": "neutral"}
_CHECK_STATUS = {"queued": "queued", "running": "in_progress"}
_GITHUB = {"success": "success", "skipped": "success", "failed": "failure", "canceled": "error"}
_GITLAB = {"queued": "pending", "running": "running", "success": "success", "failed": "failed", "canceled": "canceled"}
_BITBUCKET = {"success": "SUCCESSFUL", "failed": "FAILED", "canceled": "STOPPED"}
_WORDS = {
    "queued": "is queued",
    "running": "is running",
    "success": "passed",
    "failed": "failed",
    "canceled": "was cancelled",
    "skipped": "was skipped",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands and what names it. `link` is its page, or empty; `check_run` GitHub's id of its check, once made."""

    run_id: UUID
    counter: int
    project: str
    pipeline: str
    sha: str
    status: str
    link: str = ""
    mode: str = BOTH
    newest: bool = True
    """Whether it speaks for the commit: the newest run of its pipeline there."""
    retried: bool = False
    """Whether this may have been told before, half."""
    check_run: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def context(self) -> str:
        """The name of the status at the commit."""
        return f"ci/gocdnext/{self.project}/{self.pipeline}"[:MAX_CONTEXT]

    @property
    def description(self) -> str:
        """One line for people."""
        return f"Run #{self.counter} of {self.pipeline} {_WORDS.get(self.status, self.status)}"[:MAX_DESCRIPTION]


async def tell(account: Account, run: Standing) -> int | None:
    """Tells a provider how a run stands; GitHub's id of its check. Raises ProviderError, OutboundError."""
    match account.place.provider:
        case "github":
            return await _tell_github(account, run)
        case "gitlab":
            await _tell_gitlab(account, run)
        case _:
            await _tell_bitbucket(account, run)
    return None


# GitHub


async def _tell_github(account: Account, run: Standing) -> int | None:
    """The check first, the status besides. Without an App there are no checks."""
    if run.mode == CHECK_RUN and account.installation is None:
        raise ProviderError("check runs need a GitHub App: configure one, or set check reporting to commit_status")
    if run.mode == COMMIT_STATUS or account.installation is None:
        await _github_status(account, run)
        return run.check_run
    check = await _github_check(account, run)
    if run.mode == BOTH:
        try:
            await _github_status(account, run)
        except DomainError as error:
            # The check says it too (8.9): not worth telling everything again.
            _log.warning("a commit status was refused, the check run was not", run_id=str(run.run_id), why=str(error))
    return check


async def _github_check(account: Account, run: Standing) -> int:
    body = _check_body(run)
    known = run.check_run or (await _found_check(account, run) if run.retried else None)
    if known is not None:
        answer = await account.call("PATCH", f"/check-runs/{known}", json=body, repeat=True)
        if answer.status != 404:
            checked(answer, "updating the check run")
            return known
    made = checked(await account.call("POST", "/check-runs", json=body), "making the check run").mapping()
    return number(made, "id")


async def _found_check(account: Account, run: Standing) -> int | None:
    """The check that an earlier try has made, whose answer was lost."""
    params: dict[str, str | int] = {"check_name": _check_name(run), "filter": "all", "per_page": MAX_CHECKS}
    answer = await account.call("GET", f"/commits/{run.sha}/check-runs", params=params)
    entries = checked(answer, "looking for the check run").mapping().get("check_runs")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("external_id") == str(run.run_id):
            return number(entry, "id")
    return None


def _check_name(run: Standing) -> str:
    return f"gocdnext / {run.pipeline}"


def _check_body(run: Standing) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": _check_name(run),
        "head_sha": run.sha,
        "external_id": str(run.run_id),
        "status": _CHECK_STATUS.get(run.status, "completed"),
        "output": {"title": run.description, "summary": run.description},
    }
    if run.link:
        body["details_url"] = run.link
    if run.started_at is not None:
        body["started_at"] = run.started_at.isoformat()
    if body["status"] == "completed":
        body["conclusion"] = _CONCLUSIONS.get(run.status, "neutral")
        if run.finished_at is not None:
            body["completed_at"] = run.finished_at.isoformat()
    return body


async def _github_status(account: Account, run: Standing) -> None:
    if not run.newest:
        return
    body = {"state": _GITHUB.get(run.status, "pending"), "context": run.context, "description": run.description}
    if run.link:
        body["target_url"] = run.link
    checked(await account.call("POST", f"/statuses/{run.sha}", json=body, repeat=True), "setting the commit status")


# GitLab and Bitbucket


async def _tell_gitlab(account: Account, run: Standing) -> None:
    if not run.newest:
        return
    body = {"state": _GITLAB.get(run.status, "success"), "name": run.context, "description": run.description}
    if run.link:
        body["target_url"] = run.link
    answer = await account.call("POST", f"/statuses/{run.sha}", json=body, repeat=True)
    if answer.status == 400 and b"Cannot transition status" in answer.content:
        return  # it stands there already
    checked(answer, "setting the commit status")


async def _tell_bitbucket(account: Account, run: Standing) -> None:
    if not run.newest:
        return
    if not run.link:
        raise ProviderError("Bitbucket wants a link with each status: set GOCDNEXT_PUBLIC_BASE")
    body = {
        "key": _key(run.context),
        "name": run.context,
        "state": _BITBUCKET.get(run.status, "INPROGRESS"),
        "description": run.description,
        "url": run.link,
    }
    answer = await account.call("POST", f"/commit/{run.sha}/statuses/build", json=body, repeat=True)
    checked(answer, "setting the build status")


def _key(context: str) -> str:
    """A short name that is the same for the same context."""
    return context if len(context) <= MAX_KEY else hashlib.sha256(context.encode()).hexdigest()[:MAX_KEY]
