"""The hook of a repository at its provider: found, brought up to date, or made (contract-admin 9.3).

The secret goes to the provider and nowhere else. Which repository and which secret is `registration`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gocdnext.forges.accounts import Account
from gocdnext.forges.errors import checked, number, refused
from gocdnext.outbound.errors import BadAnswerError

NAME = "gocdnext"
PAGE = 100
MAX_PAGES = 10
_UUID = re.compile(r"\{?[0-9a-fA-F-]{1,64}\}?")
GITHUB_EVENTS = ["push", "pull_request"]
BITBUCKET_EVENTS = ["repo:push", "pullrequest:created", "pullrequest:updated"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The hook that is to be there: where it points, and what it signs with."""

    target: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Registered:
    """What was done: `registered`, `updated` or `already_exists`; and the provider's name of the hook."""

    status: str
    hook_id: str


async def register(account: Account, wanted: Wanted) -> Registered:
    """Makes the hook as it is wanted. Raises ProviderError, OutboundError."""
    one = {"github": _GITHUB, "gitlab": _GITLAB, "bitbucket": _BITBUCKET}[account.place.provider]
    body = one.body(wanted)
    known = await _known(account, one, wanted.target)
    if known is not None:
        answer = await account.call(one.change, f"/hooks/{_segment(known)}", json=body, repeat=True)
        checked(answer, "updating the webhook")
        return Registered("updated", known)
    answer = await account.call("POST", "/hooks", json=body)
    if answer.status == 422 and account.place.provider == "github" and b"already exists" in answer.content:
        return Registered("already_exists", "")
    made = one.identity(checked(answer, "registering the webhook").mapping())
    if not made:
        raise BadAnswerError(f"{answer.host} answered without the id of the webhook")
    return Registered("registered", made)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a provider writes hooks."""

    body: Callable[[Wanted], dict[str, Any]]
    change: str
    """The verb of an update."""
    identity: Callable[[dict[str, Any]], str]
    points_to: Callable[[dict[str, Any]], object]
    size: str
    """The parameter of a page's size."""


def _github_body(wanted: Wanted) -> dict[str, Any]:
    config = {"url": wanted.target, "content_type": "json", "secret": wanted.secret, "insecure_ssl": "0"}
    return {"name": "web", "active": True, "events": GITHUB_EVENTS, "config": config}


def _gitlab_body(wanted: Wanted) -> dict[str, Any]:
    return {
        "url": wanted.target,
        "token": wanted.secret,
        "push_events": True,
        "tag_push_events": True,
        "merge_requests_events": True,
        "enable_ssl_verification": True,
    }


def _bitbucket_body(wanted: Wanted) -> dict[str, Any]:
    return {
        "description": NAME,
        "url": wanted.target,
        "active": True,
        "secret": wanted.secret,
        "events": BITBUCKET_EVENTS,
    }


def _number(entry: dict[str, Any]) -> str:
    return str(number(entry, "id"))


def _uuid(entry: dict[str, Any]) -> str:
    value = entry.get("uuid")
    return value if isinstance(value, str) and _UUID.fullmatch(value) else ""


def _in_config(entry: dict[str, Any]) -> object:
    config = entry.get("config")
    return config.get("url") if isinstance(config, dict) else None


_GITHUB = _Kind(_github_body, "PATCH", _number, _in_config, "per_page")
_GITLAB = _Kind(_gitlab_body, "PUT", _number, lambda entry: entry.get("url"), "per_page")
_BITBUCKET = _Kind(_bitbucket_body, "PUT", _uuid, lambda entry: entry.get("url"), "pagelen")


async def _known(account: Account, kind: _Kind, target: str) -> str | None:
    """The hook that points to us already, perhaps with a query behind. Looks at MAX_PAGES pages at most."""
    for page in range(1, MAX_PAGES + 1):
        answer = await account.call("GET", "/hooks", params={kind.size: PAGE, "page": page})
        if not answer.ok:
            raise refused(answer, "looking at the webhooks of the repository")
        document = answer.json()
        entries = document.get("values") if isinstance(document, dict) else document
        if not isinstance(entries, list):
            raise BadAnswerError(f"{answer.host} answered with something else than a list of webhooks")
        for entry in entries:
            if isinstance(entry, dict) and _same(kind.points_to(entry), target) and (found := kind.identity(entry)):
                return found
        more = bool(document.get("next")) if isinstance(document, dict) else len(entries) >= PAGE
        if not more:
            return None
    return None


def _same(url: object, target: str) -> bool:
    return isinstance(url, str) and (url.rstrip("/") == target or url.startswith((f"{target}?", f"{target}#")))


def _segment(hook_id: str) -> str:
    """The id as a segment of a path: Bitbucket's has braces."""
    return hook_id.replace("{", "%7B").replace("}", "%7D").replace("/", "%2F")
