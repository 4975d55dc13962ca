"""How the server and its agents sign in at repositories (contract-admin 7.9): a url with what belongs to it.

The token of the project's own source goes first, then what is kept for the host. A url that names a user already stays as
it is, and so does one that is not https: a token never goes over the line in clear, unless whoever keeps it says so (an
`api_base` or a source that is http). Everything is in memory, because an assignment is dressed while it is sent; what
another server changes is heard of at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit
from uuid import UUID

import structlog

from gocdnext.db import queries
from gocdnext.db.pool import Database
from gocdnext.db.refreshed import Refreshed
from gocdnext.pipeline.fingerprints import normal_git_url
from gocdnext.runs.assignment import Assignment
from gocdnext.secrets import scm_credentials
from gocdnext.secrets.sealing import Keyring, UnsealError

CHANNEL = "scm_credentials_changed"
_USERS = {"github": "x-access-token", "gitlab": "oauth2", "bitbucket": "x-token-auth"}
"""The user name that a token goes with. One with a colon is a user name and a password."""
_SQL = queries.load("scm_credentials")
_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Token:
    provider: str
    text: str = field(repr=False)
    clear: bool = False
    """Whether it may go over http."""


@dataclass(frozen=True, slots=True)
class _Known:
    sources: Mapping[tuple[UUID, str], _Token] = field(default_factory=dict)
    """By project and normal url."""
    hosts: Mapping[str, tuple[_Token, ...]] = field(default_factory=dict)


class SignIn(Protocol):
    """Gives the url that git is to be given for a repository: `Access.url`, or `plainly`."""

    def __call__(self, url: str, *projects: UUID, provider: str = "", token: str = "") -> str:
        """The url for git."""


def plainly(url: str, *projects: UUID, provider: str = "", token: str = "") -> str:
    """Repositories are reached without signing in."""
    return url


class Access:
    """What is kept for repositories, as this process knows it."""

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._keyring = keyring
        self._known = _Known()
        self.kept = Refreshed("credentials of repositories", self.refresh)

    async def refresh(self) -> None:
        """Looks now. Raises DatabaseUnavailableError."""
        hosts: dict[str, tuple[_Token, ...]] = {}
        for row in await self._db.fetch(_SQL.for_hosts):
            try:
                token = scm_credentials.opened(self._keyring, row)
            except UnsealError as error:
                _LOG.error("a credential cannot be opened", provider=row["provider"], host=row["host"], why=str(error))
                continue
            clear = row["api_base"].startswith("http://")
            hosts[row["host"]] = (*hosts.get(row["host"], ()), _Token(row["provider"], token, clear))
        sources = {
            (row["project_id"], row["url"]): _Token(row["provider"], row["auth_ref"], True)
            for row in await self._db.fetch(_SQL.of_sources)
        }
        self._known = _Known(sources, hosts)

    async def changed(self) -> None:
        """A source was bound: this server knows it when this returns, the others soon. Raises DatabaseUnavailableError."""
        await self._db.execute(_SQL.tell)
        await self.refresh()

    def url(self, url: str, *projects: UUID, provider: str = "", token: str = "") -> str:
        """The url to give to git for a repository that these projects use; `token` is one that was just said for it."""
        place = _place(url)
        if place is None:
            return url
        scheme, host, rest = place
        normal = normal_git_url(url)
        known = self._known
        own = [_Token(provider, token, True)] if token else []
        own += [found for project in projects if (found := known.sources.get((project, normal)))]
        own += sorted(known.hosts.get(host, ()), key=lambda found: found.provider != provider)
        chosen = next((found for found in own if scheme == "https" or found.clear), None)
        return url if chosen is None else f"{scheme}://{_user_info(chosen)}@{host}{rest}"

    def dressed(self, assignment: Assignment) -> Assignment:
        """An assignment whose checkouts can sign in, and whose log hides what they do it with.

        What a fork proposes gets nothing: its code would find it in the configuration of git.
        """
        if assignment.project_id is None or assignment.from_fork or not (self._known.sources or self._known.hosts):
            return assignment
        checkouts = tuple(replace(one, url=self.url(one.url, assignment.project_id)) for one in assignment.checkouts)
        if checkouts == assignment.checkouts:
            return assignment
        tokens = {mask for one in checkouts for mask in _secrets_of(one.url)}
        masks = sorted({*assignment.masks, *tokens}, key=lambda mask: (-len(mask), mask))
        return replace(assignment, checkouts=checkouts, masks=tuple(masks))


def _place(url: str) -> tuple[str, str, str] | None:
    """Scheme, host and the rest of a url that may be given a user; None for any other."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        return None
    return parts.scheme, parts.netloc.lower(), url.partition("://")[2][len(parts.netloc) :]


def _user_info(token: _Token) -> str:
    user, colon, password = token.text.partition(":")
    if not colon:
        user, password = _USERS.get(token.provider, "git"), token.text
    return f"{quote(user, safe='')}:{quote(password, safe='')}"


def _secrets_of(url: str) -> tuple[str, ...]:
    """What must not be shown of a url: the password as it is, and as the url writes it."""
    info = urlsplit(url).netloc.rpartition("@")[0]
    password = info.partition(":")[2]
    return (unquote(password), password) if password else ()
