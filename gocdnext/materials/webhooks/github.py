"""Deliveries of GitHub: push (branches and tags), pull_request (contract-admin 8.1, 8.3 to 8.6). Pure."""

from __future__ import annotations

import msgspec

from gocdnext.materials.webhooks import events
from gocdnext.materials.webhooks.events import BranchPush, Event, Headers, Nothing, PayloadError, Provider, TagPush

MAX_COMMITS = 2048
"""GitHub lists no more commits than this: a push that has as many may have more."""
_ACTIONS = ("opened", "synchronize", "reopened")


class _Person(msgspec.Struct):
    name: str | None = None


class _Commit(msgspec.Struct):
    message: str = ""
    timestamp: str | None = None
    author: _Person | None = None
    added: list[str] = []
    removed: list[str] = []
    modified: list[str] = []


class _Repository(msgspec.Struct):
    full_name: str
    clone_url: str


class _Push(msgspec.Struct):
    ref: str
    repository: _Repository
    before: str = ""
    after: str = ""
    deleted: bool = False
    forced: bool = False
    size: int | None = None
    head_commit: _Commit | None = None
    commits: list[_Commit] | None = None
    pusher: _Person | None = None


class _Fork(msgspec.Struct):
    id: int


class _Base(msgspec.Struct):
    ref: str
    repo: _Fork


class _Head(msgspec.Struct):
    ref: str
    sha: str
    repo: _Fork | None = None


class _User(msgspec.Struct):
    login: str = ""


class _Label(msgspec.Struct):
    name: str = ""


class _PullRequest(msgspec.Struct):
    head: _Head
    base: _Base
    title: str = ""
    html_url: str = ""
    user: _User | None = None
    labels: list[_Label] = []


class _PullRequestEvent(msgspec.Struct):
    action: str
    number: int
    pull_request: _PullRequest
    repository: _Repository


def _repository(payload: object) -> str:
    return events.at(payload, "repository", "clone_url")


def _verify(secret: str, headers: Headers, body: bytes) -> bool:
    scheme, _, claimed = headers.get("X-Hub-Signature-256", "").partition("=")
    return scheme == "sha256" and events.signed(secret, body, claimed)


def _read(event: str, payload: object) -> tuple[Event, ...]:
    match event:
        case "push":
            return (_push(events.converted(payload, _Push, "push")),)
        case "pull_request":
            return (_request(events.converted(payload, _PullRequestEvent, "pull_request")),)
        case "create":
            return (Nothing("`create` comes besides the push of the same tag or branch, which is what starts runs"),)
        case _:
            return (Nothing(f"the event {events.text(event)[:80]!r} starts no runs"),)


def _push(push: _Push) -> Event:
    if not push.ref.startswith((events.BRANCHES, events.TAGS)):
        raise PayloadError(f"invalid push payload: {push.ref[:80]!r} is neither a branch nor a tag")
    if push.deleted or events.is_deleted(push.after):
        return Nothing("the branch or tag was deleted")
    url, head = push.repository.clone_url, push.head_commit
    author = events.text(head.author.name if head and head.author else "")
    message = events.text(head.message if head else "")
    committed_at = events.moment(head.timestamp) if head else None
    if push.ref.startswith(events.TAGS):
        tag = events.ref(push.ref.removeprefix(events.TAGS), "push")
        tagger = author or events.text(push.pusher.name if push.pusher else "")
        return TagPush(url, tag, events.commit(push.after, "push"), tagger, message, "", committed_at)
    branch = events.ref(push.ref.removeprefix(events.BRANCHES), "push")
    revision = events.commit(push.after, "push")
    if head is None:
        return Nothing("the push has no head commit")
    before = events.text(push.before)
    return BranchPush(
        url, branch, revision, author, message, committed_at, _changed(push), before, straight=not push.forced
    )


def _changed(push: _Push) -> frozenset[str] | None:
    """What a forced push has taken away is in none of its commits, so nobody knows what it changes."""
    commits = push.commits or []
    if push.forced or not commits or len(commits) >= MAX_COMMITS or (push.size or 0) > len(commits):
        return None
    return frozenset(path for entry in commits for path in (*entry.added, *entry.removed, *entry.modified))


def _request(event: _PullRequestEvent) -> Event:
    request = event.pull_request
    if event.action not in _ACTIONS:
        return Nothing(f"the action {events.text(event.action)[:40]!r} of a pull request starts no runs")
    what = "pull_request"
    return events.Request(
        url=event.repository.clone_url,
        number=event.number,
        title=events.text(request.title),
        author=events.text(request.user.login if request.user else ""),
        page=events.text(request.html_url),
        base=events.ref(request.base.ref, what),
        head=events.ref(request.head.ref, what),
        revision=events.commit(request.head.sha, what),
        action=event.action,
        labels=events.labels([label.name for label in request.labels]),
        from_fork=request.head.repo is None or request.head.repo.id != request.base.repo.id,
    )


GITHUB = Provider(
    name="github",
    event_header="X-GitHub-Event",
    delivery_header="X-GitHub-Delivery",
    credential_header="X-Hub-Signature-256",
    kept_headers=(
        "X-GitHub-Event",
        "X-GitHub-Delivery",
        "X-GitHub-Hook-Id",
        "X-GitHub-Hook-Installation-Target-Id",
        "X-GitHub-Hook-Installation-Target-Type",
        "X-Hub-Signature-256",
    ),
    no_url="repository.clone_url required",
    refusal="invalid signature",
    repository=_repository,
    verify=_verify,
    read=_read,
)
