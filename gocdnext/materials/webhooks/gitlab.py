"""Deliveries of GitLab: Push Hook, Tag Push Hook, Merge Request Hook (contract-admin 8.1, 8.3 to 8.6). Pure."""

from __future__ import annotations

import hmac

import msgspec

from gocdnext.materials.webhooks import events
from gocdnext.materials.webhooks.events import BranchPush, Event, Headers, Nothing, PayloadError, Provider, TagPush

_ACTIONS = ("open", "update", "reopen")


class _Author(msgspec.Struct):
    name: str | None = None
    email: str | None = None


class _Commit(msgspec.Struct):
    message: str = ""
    timestamp: str | None = None
    author: _Author | None = None
    added: list[str] = []
    removed: list[str] = []
    modified: list[str] = []


class _Push(msgspec.Struct):
    ref: str
    after: str
    before: str = ""
    object_kind: str | None = None
    checkout_sha: str | None = None
    message: str | None = None
    user_name: str | None = None
    commits: list[_Commit] = []
    total_commits_count: int | None = None


class _LastCommit(msgspec.Struct):
    id: str


class _User(msgspec.Struct):
    username: str = ""


class _Label(msgspec.Struct):
    title: str = ""


class _Attributes(msgspec.Struct):
    iid: int
    source_branch: str
    target_branch: str
    last_commit: _LastCommit
    source_project_id: int | None = None
    target_project_id: int | None = None
    action: str = ""
    state: str = ""
    title: str = ""
    url: str = ""


class _MergeRequest(msgspec.Struct):
    object_attributes: _Attributes
    user: _User | None = None
    labels: list[_Label] | None = None


def _repository(payload: object) -> str:
    return (
        events.at(payload, "repository", "git_http_url")
        or events.at(payload, "project", "git_http_url")
        or events.at(payload, "repository", "url")
    )


def _verify(secret: str, headers: Headers, body: bytes) -> bool:
    """GitLab signs nothing: the secret itself is sent."""
    claimed = headers.get("X-Gitlab-Token", "").encode("utf-8", "replace")
    return hmac.compare_digest(secret.encode(), claimed)


def _read(event: str, payload: object) -> tuple[Event, ...]:
    url = _repository(payload)
    match event:
        case "Push Hook":
            return (_push(events.converted(payload, _Push, "push"), url, "push", events.BRANCHES),)
        case "Tag Push Hook":
            return (_push(events.converted(payload, _Push, "push"), url, "tag_push", events.TAGS),)
        case "Merge Request Hook":
            return (_request(events.converted(payload, _MergeRequest, "merge_request"), url),)
        case _:
            return (Nothing(f"the event {events.text(event)[:80]!r} starts no runs"),)


def _push(push: _Push, url: str, kind: str, prefix: str) -> Event:
    if push.object_kind not in (None, kind):
        raise PayloadError(f"invalid push payload: object_kind is {push.object_kind[:40]!r}, not {kind!r}")
    if not push.ref.startswith(prefix):
        raise PayloadError(f"invalid push payload: {push.ref[:80]!r} does not begin with {prefix}")
    if events.is_deleted(push.after):
        return Nothing("the branch or tag was deleted")
    name = events.ref(push.ref.removeprefix(prefix), "push")
    head = push.commits[-1] if push.commits else None
    author = (head.author.name or head.author.email or "") if head and head.author else ""
    message = events.text(head.message if head else "")
    committed_at = events.moment(head.timestamp) if head else None
    if prefix == events.TAGS:
        # `after` of an annotated tag is the tag itself, `checkout_sha` the commit that it names.
        revision = events.commit(push.checkout_sha or push.after, "push")
        tagger = events.text(push.user_name) or events.text(author)
        return TagPush(url, name, revision, tagger, message, events.text(push.message), committed_at)
    revision = events.commit(push.after, "push")
    if head is None:
        return Nothing("the push has no commits: a branch was made where another one is")
    before = events.text(push.before)
    return BranchPush(url, name, revision, events.text(author), message, committed_at, _changed(push), before)


def _changed(push: _Push) -> frozenset[str] | None:
    if push.total_commits_count != len(push.commits):
        return None
    return frozenset(path for entry in push.commits for path in (*entry.added, *entry.removed, *entry.modified))


def _request(event: _MergeRequest, url: str) -> Event:
    about, what = event.object_attributes, "merge_request"
    if about.action not in _ACTIONS or about.state == "merged":
        said = events.text(about.action or about.state)[:40]
        return Nothing(f"the action {said!r} of a merge request starts no runs")
    return events.Request(
        url=url,
        number=about.iid,
        title=events.text(about.title),
        author=events.text(event.user.username if event.user else ""),
        page=events.text(about.url),
        base=events.ref(about.target_branch, what),
        head=events.ref(about.source_branch, what),
        revision=events.commit(about.last_commit.id, what),
        action=about.action,
        labels=events.labels([label.title for label in event.labels or []]),
        from_fork=about.source_project_id is None or about.source_project_id != about.target_project_id,
    )


GITLAB = Provider(
    name="gitlab",
    event_header="X-Gitlab-Event",
    delivery_header="X-Gitlab-Event-UUID",
    credential_header="X-Gitlab-Token",
    kept_headers=("X-Gitlab-Event", "X-Gitlab-Event-UUID", "X-Gitlab-Webhook-UUID", "X-Gitlab-Instance"),
    no_url="repository.git_http_url required",
    refusal="invalid token",
    repository=_repository,
    verify=_verify,
    read=_read,
)
