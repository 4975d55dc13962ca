"""What a delivery says, in our words, and how a provider is read. Pure: no provider is asked, nothing is stored."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from gocdnext.materials import git

Headers = Mapping[str, str]
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_NOWHERE = re.compile(r"0+")
BRANCHES, TAGS = "refs/heads/", "refs/tags/"
T = TypeVar("T")


class PayloadError(Exception):
    """The payload is not what its event promises; the text says where."""


@dataclass(frozen=True, slots=True)
class BranchPush:
    """A branch has a new head."""

    url: str
    branch: str
    revision: str
    author: str
    message: str
    committed_at: datetime | None
    changed: frozenset[str] | None
    """Paths of the files that changed; None when not all of them are told."""
    before: str = ""
    """Where the branch was; empty when that is not told."""
    straight: bool = False
    """Whether it is sure that no commit of the branch was taken away."""


@dataclass(frozen=True, slots=True)
class TagPush:
    """A tag was made, or moved."""

    url: str
    tag: str
    revision: str
    author: str
    message: str
    """Of the commit, where it is told."""
    tag_message: str
    committed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks for a branch to be merged: a pull or merge request."""

    url: str
    """Of the repository that is to take it."""
    number: int
    title: str
    author: str
    page: str
    base: str
    head: str
    revision: str
    action: str
    labels: tuple[str, ...]
    from_fork: bool
    """Whether it comes from another repository, or may."""
    changed: frozenset[str] | None = None
    """Paths of the files that it changes; None when they are not known: no provider sends them."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing that could start a run, and why."""

    why: str


Event = BranchPush | TagPush | Request | Nothing


@dataclass(frozen=True, slots=True)
class Provider:
    """How deliveries of one provider are read (contract-admin 8.1)."""

    name: str
    event_header: str
    delivery_header: str
    credential_header: str
    kept_headers: tuple[str, ...]
    """Besides the common ones; never one that carries a secret."""
    no_url: str
    refusal: str
    """What is answered to a wrong credential."""
    repository: Callable[[object], str]
    """The clone url that a payload names, not verified yet; empty when it names none."""
    verify: Callable[[str, Headers, bytes], bool]
    """Whether a secret fits the credential of the request, in a time that does not tell how nearly."""
    read: Callable[[str, object], tuple[Event, ...]]
    """The events of a payload. Raises PayloadError."""


def signed(secret: str, body: bytes, claimed: str) -> bool:
    """Whether `claimed` is the hex HMAC-SHA256 of the body."""
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), claimed.encode("utf-8", "replace"))


def converted(payload: object, kind: type[T], what: str) -> T:
    """The payload as a typed message. Raises PayloadError."""
    try:
        return msgspec.convert(payload, kind)
    except msgspec.ValidationError as error:
        raise PayloadError(f"invalid {what} payload: {error}") from None


def number_at(payload: object, *path: str) -> int:
    """The whole number at a path of keys; 0 when there is none."""
    for key in path:
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload if isinstance(payload, int) and not isinstance(payload, bool) else 0


def at(payload: object, *path: str) -> str:
    """A text somewhere in a payload that nobody has looked at; empty when it is not there, or no text one could store."""
    here: Any = payload
    for key in path:
        here = here.get(key) if isinstance(here, dict) else None
    return here if isinstance(here, str) and "\0" not in here and len(here) <= 2048 else ""


def is_deleted(commit: str) -> bool:
    """Whether a commit id is the one of nothing."""
    return _NOWHERE.fullmatch(commit) is not None


def commit(text: str, what: str) -> str:
    """A commit id. Raises PayloadError."""
    if not _COMMIT.fullmatch(text):
        raise PayloadError(f"invalid {what} payload: {text[:80]!r} is not the id of a commit")
    return text


def ref(name: str, what: str) -> str:
    """A branch or tag name that git takes as a name and nothing else. Raises PayloadError."""
    try:
        git.check_branch(name)
    except git.GitError as error:
        raise PayloadError(f"invalid {what} payload: {error}") from None
    return name


def text(value: str | None) -> str:
    """Free text as it can be stored."""
    return "" if value is None else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def moment(value: str | None) -> datetime | None:
    """A time, or None for what is no time that can be stored."""
    try:
        found = datetime.fromisoformat(value or "")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def labels(names: list[str]) -> tuple[str, ...]:
    """Labels in lower case, each once."""
    return tuple(dict.fromkeys(text(name).lower() for name in names if name))
