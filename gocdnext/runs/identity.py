"""Who a job is, as its identity token says it: the claims that a verifier's rules are written against (contract-admin 12).

Pure. What the code of the run comes from decides `sub` and `ref_type`, also in runs that follow from such a run: a tag or
pull request whose name is that of a branch never looks like the branch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gocdnext.runs.state import Job, Revision, Run

CLAIMS: Final = (
    "iss", "sub", "aud", "iat", "nbf", "exp", "jti", "project_slug", "project_id", "pipeline", "pipeline_id", "job", "run_id",
    "run_counter", "cause", "ref_type", "ref", "matrix_key", "sha", "pr_number",
)  # fmt: skip
"""Every claim that a token may have."""
REF_KIND: Final = "ref_kind"
"""Key of a run's cause detail: `tag` or `pull_request`, where its code comes from one through an upstream run."""
TAG, PULL_REQUEST, BRANCH, NONE = "tag", "pull_request", "branch", "none"
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def ref_kind(run: Run) -> str | None:
    """TAG or PULL_REQUEST when the code of the run comes from one, else None."""
    for kind in (TAG, PULL_REQUEST):
        if kind in (run.cause, run.cause_detail.get(REF_KIND)):
            return kind
    return None


def inherited_kind(run: Run) -> Mapping[str, object]:
    """What the cause detail of a run says that this run starts."""
    kind = ref_kind(run)
    return {REF_KIND: kind} if kind else {}


def claims(run: Run, job: Job, primary: Revision) -> dict[str, str]:
    """The claims of an attempt, without those of the issuer and of the moment; `primary` is the run's primary revision."""
    kind = ref_kind(run)
    ref = primary.branch
    ref_type = NONE if not ref else TAG if kind == TAG else BRANCH
    found = {
        "sub": _subject(run, kind, ref_type, ref),
        "project_slug": run.project_slug,
        "project_id": str(run.project_id),
        "pipeline": run.definition.name,
        "pipeline_id": str(run.pipeline_id),
        "job": job.name,
        "run_id": str(run.id),
        "run_counter": str(run.counter),
        "cause": run.cause,
        "ref_type": ref_type,
    }
    if ref:
        found["ref"] = ref
    if job.matrix_key:
        found["matrix_key"] = job.matrix_key
    if _COMMIT.fullmatch(primary.revision):
        found["sha"] = primary.revision
    number = run.cause_detail.get("pr_number")
    if kind == PULL_REQUEST and isinstance(number, int) and number > 0:
        found["pr_number"] = str(number)
    return found


def _subject(run: Run, kind: str | None, ref_type: str, ref: str) -> str:
    front = f"project:{_segment(run.project_slug)}:pipeline:{_segment(run.definition.name)}"
    if kind == PULL_REQUEST:
        return f"{front}:pull_request"
    return f"{front}:ref_type:{ref_type}:ref:{_segment(ref) or NONE}"


def _segment(text: str) -> str:
    """A part of the subject, in which a colon cannot begin another part."""
    return text.replace("%", "%25").replace(":", "%3A")
