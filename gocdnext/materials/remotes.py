"""Reading the configuration folder of a repository: through its provider's API where a token lets us in, else through git.

Every way is held to the operator's rules of outgoing calls: GOCDNEXT_OFFLINE, GOCDNEXT_OUTBOUND_ALLOW. Repositories on this
machine (a path, file://) are no calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

from gocdnext.errors import DomainError
from gocdnext.forges.accounts import Account
from gocdnext.forges.places import Place, place_of
from gocdnext.materials import folders, git, provider_files
from gocdnext.materials.access import SignIn
from gocdnext.materials.folders import Folder
from gocdnext.outbound import guard
from gocdnext.outbound.client import Outbound
from gocdnext.outbound.errors import OfflineError, OutboundError
from gocdnext.outbound.policy import Policy

ANSWER_WITHIN = 8.0
"""Seconds that a provider gets to say what a pull request changes: a delivery waits for it (contract-admin 17.3)."""
FindAccount = Callable[[Place, str], Awaitable[Account | None]]
"""The right to call a provider for a repository, with the token of the project's own, if it has one."""

_PORTS = {"http": 80, "https": 443, "ssh": 22, "git": 9418}


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository, and what the project that is bound to it says about getting in."""

    provider: str
    clone_url: str
    project_id: UUID | None = None
    token: str = field(default="", repr=False)
    """Of the project's own for it; else what is kept for the host is taken."""


class AskHeads(Protocol):
    """Asks a repository for the heads of branches: `Remotes.heads`, or `ask_heads`."""

    async def __call__(
        self, url: str, branches: Collection[str], *projects: UUID, timeout: float = git.HEAD_TIMEOUT
    ) -> dict[str, str]:
        """The commits by branch, of those that exist. `projects` use the repository. Raises GitError."""


async def ask_heads(
    url: str, branches: Collection[str], *projects: UUID, timeout: float = git.HEAD_TIMEOUT
) -> dict[str, str]:
    """Without signing in, and without rules."""
    return await git.heads(url, branches, timeout=timeout)


class Remotes:
    """Repositories of others."""

    def __init__(self, outbound: Outbound, sign_in: SignIn, accounts: FindAccount) -> None:
        self._outbound = outbound
        self._sign_in = sign_in
        self._accounts = accounts

    def may_be_asked(self, clone_url: str) -> bool:
        """Whether the operator lets the server ask this repository at all."""
        return not (self._outbound.policy.offline and _host(clone_url))

    async def folder(
        self, repository: Repository, branch: str, path: str, *, timeout: float = folders.FETCH_TIMEOUT
    ) -> Folder:
        """The YAML files of a folder at the head of a branch. Raises FolderMissingError, GitError."""
        git.check_branch(branch)
        return await self._read(repository, f"refs/heads/{branch}", path, timeout)

    async def folder_at(
        self, repository: Repository, commit: str, path: str, *, timeout: float = folders.FETCH_TIMEOUT
    ) -> Folder:
        """The same at a commit. Raises FolderMissingError, GitError."""
        if not git.is_commit(commit):
            raise git.GitError(f"not the id of a commit: {commit[:80]!r}")
        return await self._read(repository, commit, path, timeout)

    async def heads(
        self, url: str, branches: Collection[str], *projects: UUID, timeout: float = git.HEAD_TIMEOUT
    ) -> dict[str, str]:
        """`AskHeads` with what is kept for signing in, and within the operator's rules."""
        git.check_url(url)
        with git.within(timeout):
            try:
                settings = await permitted(self._outbound.policy, url)
            except OutboundError as error:
                raise git.GitError(str(error)) from None
            return await git.heads(self._sign_in(url, *projects), branches, settings=settings, timeout=timeout)

    async def _read(self, repository: Repository, wanted: str, path: str, timeout: float) -> Folder:
        url = repository.clone_url
        git.check_url(url)
        refusal = ""
        with git.within(timeout):
            try:
                settings = await permitted(self._outbound.policy, url)
            except OutboundError as error:
                raise git.GitError(str(error)) from None
            try:
                account = await self._account(repository)
                if account is not None:
                    return await provider_files.read(account, wanted, path)
            except folders.FolderMissingError:
                raise
            except (DomainError, git.GitError) as error:
                # Some other server that speaks git may be there, or the token is good for git only.
                refusal = f"; before that, the API: {error}"
            try:
                return await folders.read_ref(
                    url, wanted, path, credential=self._credential(repository), settings=settings, timeout=timeout
                )
            except folders.FolderMissingError:
                raise
            except git.GitError as error:
                raise git.GitError(f"{error}{refusal}") from None

    async def changed_files(self, repository: Repository, number: int) -> frozenset[str] | None:
        """The files that a pull request of GitHub changes; None when that is not known. Raises GitError, DomainError."""
        with git.within(ANSWER_WITHIN):
            account = await self._account(repository)
            return None if account is None else await provider_files.changed_files(account, number)

    async def _account(self, repository: Repository) -> Account | None:
        """The right to call the repository's provider, where there is one. Raises DomainError."""
        place = place_of(repository.provider, repository.clone_url)
        if place is None or _host(repository.clone_url) is None:
            return None
        return await self._accounts(place, repository.token)

    def _credential(self, repository: Repository) -> git.Credential | None:
        """What is kept for getting in; what the url itself says is git's to use."""
        url, projects = repository.clone_url, () if repository.project_id is None else (repository.project_id,)
        signed = self._sign_in(url, *projects, provider=repository.provider, token=repository.token)
        return None if signed == url else git.credential_in(signed)


async def permitted(policy: Policy, url: str) -> tuple[str, ...]:
    """How git is held to the address of a repository that was looked at, as configuration of git. Over ssh and git:// it
    resolves the name once more. Raises OfflineError, RefusedTargetError, UnreachableError, GitError."""
    where = _host(url)
    if where is None:
        return ()
    scheme, host, port = where
    if policy.offline:
        raise OfflineError("asking a repository")
    if scheme in ("http", "https") and policy.proxy_for(scheme, host):
        return ()  # the proxy resolves the name, and decides
    addresses = await guard.permitted(policy, host, port)
    shown = ",".join(f"[{address}]" if address.version == 6 else str(address) for address in addresses)
    return (f"http.curloptResolve={host}:{port}:{shown}",) if scheme in ("http", "https") else ()


def _host(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of a repository elsewhere; None for one on this machine's disk. Raises GitError."""
    if url.startswith(("/", "file://")):
        return None
    if "://" not in url:
        return "ssh", url.partition(":")[0].rpartition("@")[2], _PORTS["ssh"]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        host, port = None, 0
    if not host:
        raise git.GitError("not a repository url: it names no host")
    return parts.scheme, host, port
