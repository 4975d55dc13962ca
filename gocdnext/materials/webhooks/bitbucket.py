"""Deliveries of Bitbucket Cloud: repo:push, pullrequest:created and updated (contract-admin 8.1, 8.3 to 8.6). Pure."""

from __future__ import annotations

import msgspec

from gocdnext.materials.webhooks import events
from gocdnext.materials.webhooks.events import BranchPush, Event, Headers, Nothing, PayloadError, Provider, TagPush

_REQUESTS = {"pullrequest:created": "created", "pullrequest:updated": "updated"}


class _User(msgspec.Struct):
    display_name: str = ""
    nickname: str = ""


class _Author(msgspec.Struct):
    raw: str = ""
    display_name: str = ""
    user: _User | None = None

    @property
    def name(self) -> str:
        return (self.user.display_name if self.user else "") or self.display_name or self.raw


class _Target(msgspec.Struct):
    hash: str
    message: str = ""
    date: str | None = None
    author: _Author | None = None


class _Ref(msgspec.Struct):
    type: str
    name: str
    target: _Target


class _OldTarget(msgspec.Struct):
    hash: str = ""


class _Old(msgspec.Struct):
    target: _OldTarget | None = None


class _Change(msgspec.Struct):
    new: _Ref | None = None
    old: _Old | None = None
    closed: bool = False


class _Changes(msgspec.Struct):
    changes: list[_Change]


class _Push(msgspec.Struct):
    push: _Changes


class _Branch(msgspec.Struct):
    name: str


class _Commit(msgspec.Struct):
    hash: str


class _Repository(msgspec.Struct):
    uuid: str = ""


class _Side(msgspec.Struct):
    branch: _Branch
    commit: _Commit
    repository: _Repository | None = None


class _Base(msgspec.Struct):
    branch: _Branch
    repository: _Repository | None = None


class _Link(msgspec.Struct):
    href: str = ""


class _Links(msgspec.Struct):
    html: _Link = msgspec.field(default_factory=_Link)


class _PullRequest(msgspec.Struct):
    id: int
    source: _Side
    destination: _Base
    title: str = ""
    author: _User | None = None
    links: _Links = msgspec.field(default_factory=_Links)


class _RequestEvent(msgspec.Struct):
    pullrequest: _PullRequest


def _repository(payload: object) -> str:
    repository = payload.get("repository") if isinstance(payload, dict) else None
    links = repository.get("links") if isinstance(repository, dict) else None
    clones = links.get("clone") if isinstance(links, dict) else None
    for entry in clones if isinstance(clones, list) else []:
        if events.at(entry, "name") == "https" and (found := events.at(entry, "href")):
            return found
    return events.at(links, "html", "href")


def _verify(secret: str, headers: Headers, body: bytes) -> bool:
    return events.signed(secret, body, headers.get("X-Hub-Signature", "").removeprefix("sha256="))


def _read(event: str, payload: object) -> tuple[Event, ...]:
    url = _repository(payload)
    if event == "repo:push":
        changes = events.converted(payload, _Push, "push").push.changes
        return tuple(_change(change, url) for change in changes) or (Nothing("the push has no changes"),)
    if event in _REQUESTS:
        found = events.converted(payload, _RequestEvent, "pullrequest").pullrequest
        return (_request(found, url, _REQUESTS[event]),)
    return (Nothing(f"the event {events.text(event)[:80]!r} starts no runs"),)


def _change(change: _Change, url: str) -> Event:
    if change.closed or change.new is None:
        return Nothing("the branch or tag was deleted")
    new, target = change.new, change.new.target
    if new.type not in ("branch", "named_branch", "tag", "annotated_tag"):
        raise PayloadError(f"invalid push payload: {new.type[:40]!r} is neither a branch nor a tag")
    name, revision = events.ref(new.name, "push"), events.commit(target.hash, "push")
    author = events.text(target.author.name if target.author else "")
    message, committed_at = events.text(target.message), events.moment(target.date)
    if new.type.endswith("tag"):
        return TagPush(url, name, revision, author, message, "", committed_at)
    before = events.text(change.old.target.hash) if change.old and change.old.target else ""
    return BranchPush(url, name, revision, author, message, committed_at, None, before)


def _request(request: _PullRequest, url: str, action: str) -> Event:
    what = "pullrequest"
    source, base = request.source.repository, request.destination.repository
    return events.Request(
        url=url,
        number=request.id,
        title=events.text(request.title),
        author=events.text((request.author.display_name or request.author.nickname) if request.author else ""),
        page=events.text(request.links.html.href),
        base=events.ref(request.destination.branch.name, what),
        head=events.ref(request.source.branch.name, what),
        revision=events.commit(request.source.commit.hash, what),
        action=action,
        labels=(),
        from_fork=source is None or base is None or not source.uuid or source.uuid != base.uuid,
    )


BITBUCKET = Provider(
    name="bitbucket",
    event_header="X-Event-Key",
    delivery_header="X-Request-UUID",
    credential_header="X-Hub-Signature",
    kept_headers=("X-Event-Key", "X-Request-UUID", "X-Hook-UUID", "X-Hub-Signature"),
    no_url="repository.links.html.href required",
    refusal="invalid signature",
    repository=_repository,
    verify=_verify,
    read=_read,
)
