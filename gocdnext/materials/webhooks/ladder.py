"""The decision ladder: which materials an event concerns, and which of them it starts (contract-admin 8.3 to 8.6). Pure.

What it says no to it explains in the trace. Who waits is looked up by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from wcmatch import glob
from wcmatch._wcparse import PatternLimitException  # there is no public name for it

from gocdnext.materials.arrivals import Arrival
from gocdnext.materials.webhooks.events import BranchPush, Event, Nothing, Request, TagPush
from gocdnext.materials.webhooks.trace import Trace
from gocdnext.pipeline.fingerprints import normal_git_url

SKIP_MARKERS = ("[skip ci]", "[ci skip]", "[no ci]")
_GLOB = glob.GLOBSTAR | glob.BRACE | glob.DOTGLOB
MAX_TRIES = 100_000
"""Comparisons of a changed file with a pattern for one delivery; a push that needs more is let through."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A git material, and what its pipeline wants to hear of."""

    pipeline_id: UUID
    material_id: UUID
    pipeline: str
    """slug/name, for people."""
    events: tuple[str, ...]
    paths: tuple[str, ...]
    pipeline_events: tuple[str, ...]
    """`when.event` of the pipeline; empty: no filter of its own."""


@dataclass(slots=True)
class Verdict:
    """What an event is to start, and why what else it could start is left out."""

    arrivals: list[Arrival] = field(default_factory=list)
    ignored: bool = False
    """Nobody waits for it at all."""
    skipped_by: str = ""
    by_event: int = 0
    by_paths: int = 0


def word(event: Event) -> str:
    """What a material has to list for this event."""
    return "tag" if isinstance(event, TagPush) else "pull_request" if isinstance(event, Request) else "push"


def decide(event: Event, waiting: Sequence[Waiting], provider: str, delivery: str, trace: Trace) -> Verdict:
    """Goes down the ladder with one event."""
    if isinstance(event, Nothing):
        trace.ended("event", event.why)
        return Verdict(ignored=True)
    if not isinstance(event, Request) and (marker := skip_marker(event.message)):
        trace.ended("skip marker", f"the commit message contains {marker}")
        return Verdict(skipped_by=marker)
    if not waiting:
        trace.ended("materials", f"no pipeline has a git material for {_described(event)}")
        return Verdict(ignored=True)
    trace.passed("materials", f"{len(waiting)} git materials wait for {_described(event)}")
    verdict = Verdict()
    interested = [one for one in waiting if _wants(one, word(event), trace)]
    verdict.by_event = len(waiting) - len(interested)
    left = _by_paths(interested, event, trace)
    verdict.by_paths = len(interested) - len(left)
    verdict.arrivals = [_arrival(one, event, provider, delivery) for one in left]
    return verdict


def skip_marker(message: str) -> str:
    """The marker in a commit message that asks for no run, or empty."""
    lower = message.lower()
    return next((marker for marker in SKIP_MARKERS if marker in lower), "")


def concerns(paths: Sequence[str], changed: Iterable[str]) -> bool:
    """Whether any changed file matches any pattern (`**` crosses folders, `{a,b}`, classes). A pattern that stands for more
    patterns than anybody can try may concern every file."""
    try:
        return bool(glob.globfilter(changed, list(paths), flags=_GLOB))
    except PatternLimitException:
        return True


def _described(event: BranchPush | TagPush | Request) -> str:
    where = normal_git_url(event.url)
    if isinstance(event, TagPush):
        return f"tags of {where}"
    return f"branch {(event.base if isinstance(event, Request) else event.branch)!r} of {where}"


def _wants(one: Waiting, wanted: str, trace: Trace) -> bool:
    events = one.events or ("push",)
    if wanted not in events:
        trace.ended("events of the material", f"it listens to {', '.join(events)}, not to {wanted}", one.pipeline)
        return False
    if one.pipeline_events and wanted not in one.pipeline_events:
        said = f"`when.event` lists {', '.join(one.pipeline_events)}, not {wanted}"
        trace.ended("events of the pipeline", said, one.pipeline)
        return False
    return True


def _by_paths(waiting: list[Waiting], event: BranchPush | TagPush | Request, trace: Trace) -> list[Waiting]:
    """Those whose paths the change touches, or may touch. Tags touch nothing and are for everybody."""
    changed = None if isinstance(event, TagPush) else event.changed
    left = []
    tries = 0
    for one in waiting:
        if not one.paths or isinstance(event, TagPush):
            trace.passed("paths", "it asks for no paths", one.pipeline)
        elif changed is None:
            trace.passed("paths", "which files changed is not known, so it may concern them", one.pipeline)
        elif (tries := tries + len(changed) * len(one.paths)) > MAX_TRIES:
            trace.passed("paths", "too many files changed to compare them all", one.pipeline)
        elif concerns(one.paths, changed):
            trace.passed("paths", "a changed file matches", one.pipeline)
        else:
            shown = ", ".join(one.paths[:10])
            trace.ended("paths", f"none of the {len(changed)} changed files matches {shown}", one.pipeline)
            continue
        left.append(one)
    return left


def _arrival(one: Waiting, event: BranchPush | TagPush | Request, provider: str, delivery: str) -> Arrival:
    detail: dict[str, object] = {"provider": provider, "delivery": delivery}
    match event:
        case BranchPush():
            return Arrival(
                one.pipeline_id,
                one.material_id,
                event.revision,
                event.branch,
                cause="webhook",
                triggered_by="system:webhook",
                detail=detail,
                author=event.author,
                message=event.message,
                committed_at=event.committed_at,
            )
        case TagPush():
            detail |= {
                "tag_name": event.tag,
                "tag_message": event.tag_message,
                "tag_sha": event.revision,
                "tagger": event.author,
            }
            return Arrival(
                one.pipeline_id,
                one.material_id,
                event.revision,
                event.tag,
                cause="tag",
                triggered_by="system:webhook",
                detail=detail,
                kind="tag",
                author=event.author,
                message=event.message or event.tag_message,
                committed_at=event.committed_at,
            )
        case Request():
            return Arrival(
                one.pipeline_id,
                one.material_id,
                event.revision,
                event.head,
                cause="pull_request",
                triggered_by="system:webhook",
                detail=detail | _request_detail(event),
                ref=f"pr:{event.number}" if event.number > 0 else event.head,
                kind="pull_request",
                author=event.author,
                message=event.title,
            )


def _request_detail(event: Request) -> dict[str, object]:
    detail: dict[str, object] = {
        "pr_number": event.number,
        "pr_title": event.title,
        "pr_author": event.author,
        "pr_url": event.page,
        "pr_head_ref": event.head,
        "pr_head_sha": event.revision,
        "pr_base_ref": event.base,
        "pr_action": event.action,
    }
    if event.labels:
        detail["pr_labels"] = list(event.labels)
    if event.from_fork:
        detail["from_fork"] = True
    return detail
