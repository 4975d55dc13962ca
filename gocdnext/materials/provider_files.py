"""What is in a repository, through the API of GitHub, GitLab or Bitbucket Cloud: its configuration folder (contract-admin
9.1), and which files a pull request changes (8.4).

One question for the commit, one for the folder, one for each file. The limits are those of reading through git.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from gocdnext.forges.accounts import Account
from gocdnext.materials import git
from gocdnext.materials.folders import MAX_FILE, MAX_FILES, MAX_FOLDER, Folder, FolderMissingError, RemoteFile, is_yaml
from gocdnext.materials.git import GitError
from gocdnext.outbound.client import Answer

PAGE = 100
MAX_LISTING = 4 * 1024 * 1024
"""Bytes of one page of a folder's listing."""
BRANCHES = "refs/heads/"
MAX_PAGES = 30
"""Of a pull request's files; GitHub gives no more."""


async def read(account: Account, wanted: str, path: str) -> Folder:
    """The YAML files of a folder at `wanted`: `refs/heads/` and a branch, or a commit. Raises FolderMissingError, GitError,
    OutboundError."""
    api = _API[account.place.provider](account)
    revision = await api.commit(wanted.removeprefix(BRANCHES)) if wanted.startswith(BRANCHES) else wanted
    parent, _, last = path.rpartition("/")
    single = is_yaml(last)
    folder = parent if single else path
    try:
        names = [name for name in await api.names(revision, folder) if is_yaml(name) and (not single or name == last)]
        if single and not names:
            raise FolderMissingError(f"no file {path!r} at the head of the branch")
    except FolderMissingError as error:
        error.revision = revision
        raise
    if len(names) > MAX_FILES:
        raise GitError(f"more than {MAX_FILES} files in {path!r}")
    files, left = [], MAX_FOLDER
    for name in sorted(names):
        content = await api.content(revision, f"{folder}/{name}".lstrip("/"))
        left -= len(content)
        if left < 0:
            raise GitError(f"the files in {path!r} are more than {MAX_FOLDER} bytes together")
        files.append(RemoteFile(name, content))
    return Folder(revision, tuple(files))


async def changed_files(account: Account, number: int) -> frozenset[str] | None:
    """Paths of the files that a pull request of GitHub changes, under their old names too; None when not all are told.
    Raises GitError, OutboundError."""
    api = _GitHub(account)
    found: set[str] = set()
    for page in range(1, MAX_PAGES + 1):
        answer = await api.get(f"/pulls/{number}/files", {"per_page": PAGE, "page": page})
        if not answer.ok:
            return None
        entries = answer.entries()
        found |= {name for entry in entries for key in ("filename", "previous_filename") if (name := _text(entry, key))}
        if len(entries) < PAGE:
            return frozenset(found)
    return None


class _Provider(ABC):
    """What the three have in common."""

    def __init__(self, account: Account) -> None:
        self._account = account

    @abstractmethod
    async def commit(self, branch: str) -> str:
        """The head of a branch."""

    @abstractmethod
    async def names(self, revision: str, folder: str) -> list[str]:
        """The regular files directly in a folder. Raises FolderMissingError."""

    @abstractmethod
    async def content(self, revision: str, path: str) -> bytes:
        """What is in a file."""

    async def get(
        self, path: str, params: dict[str, str | int], max_bytes: int = MAX_LISTING, accept: str = ""
    ) -> Answer:
        """One question about the repository. Raises GitError for an answer that is none, but for 404; OutboundError."""
        account = self._account
        headers = account.headers | ({"Accept": accept} if accept else {})
        url = f"{account.api}{account.place.below}{path}"
        answer = await account.outbound.request(
            "GET", url, headers=headers, params=params, max_bytes=max_bytes, redirects=2
        )
        if answer.status in (401, 403):
            raise GitError(f"{answer.host} does not take the credential of the project's repository ({answer.status})")
        if not answer.ok and answer.status != 404:
            raise GitError(f"{answer.host} answered {answer.status}")
        return answer

    def told(self, answer: Answer, branch: str, *path: str) -> str:
        """A commit in an answer about a branch. Raises GitError."""
        if answer.status == 404:
            raise GitError(
                f"{answer.host} has no branch {branch!r} of this repository, or does not show it to this token"
            )
        found: Any = answer.mapping()
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, str) or not git.is_commit(found):
            raise GitError(f"{answer.host} does not say which commit branch {branch!r} is at")
        return found


def _missing(folder: str) -> FolderMissingError:
    return FolderMissingError(f"no folder {folder!r} at the head of the branch")


class _GitHub(_Provider):
    async def commit(self, branch: str) -> str:
        answer = await self.get(f"/branches/{quote(branch, safe='')}", {})
        return self.told(answer, branch, "commit", "sha")

    async def names(self, revision: str, folder: str) -> list[str]:
        answer = await self.get(f"/contents/{quote(folder)}", {"ref": revision})
        # A file's answer is an object.
        if answer.status == 404 or not isinstance(answer.json(), list):
            raise _missing(folder)
        return [_text(entry, "name") for entry in answer.entries() if entry.get("type") == "file"]

    async def content(self, revision: str, path: str) -> bytes:
        answer = await self.get(
            f"/contents/{quote(path)}",
            {"ref": revision},
            max_bytes=2 * MAX_FILE,
            accept="application/vnd.github.raw+json",
        )
        return _whole(answer, path)


class _GitLab(_Provider):
    async def commit(self, branch: str) -> str:
        answer = await self.get(f"/repository/branches/{quote(branch, safe='')}", {})
        return self.told(answer, branch, "commit", "id")

    async def names(self, revision: str, folder: str) -> list[str]:
        async def page(number: int) -> Answer:
            params: dict[str, str | int] = {"ref": revision, "path": folder, "per_page": PAGE, "page": number}
            return await self.get("/repository/tree", params)

        entries = await _pages(page, folder)
        # Links have type blob as well, and another mode.
        return [_text(one, "name") for one in entries if one.get("type") == "blob" and one.get("mode") != "120000"]

    async def content(self, revision: str, path: str) -> bytes:
        where = f"/repository/files/{quote(path, safe='')}/raw"
        return _whole(await self.get(where, {"ref": revision}, max_bytes=2 * MAX_FILE), path)


class _Bitbucket(_Provider):
    async def commit(self, branch: str) -> str:
        answer = await self.get(f"/refs/branches/{quote(branch, safe='')}", {})
        return self.told(answer, branch, "target", "hash")

    async def names(self, revision: str, folder: str) -> list[str]:
        where = f"/src/{revision}/{quote(folder)}{'/' if folder else ''}"
        found: list[str] = []
        for number in range(1, MAX_FILES // PAGE + 2):
            answer = await self.get(where, {"pagelen": PAGE, "page": number})
            if answer.status == 404:
                raise _missing(folder)
            page = answer.mapping()
            for entry in page.get("values") or []:
                plain = entry.get("type") == "commit_file" and not set(entry.get("attributes") or ()) & _SPECIAL
                if plain:
                    found.append(_text(entry, "path").rpartition("/")[2])
            if not page.get("next"):
                return found
        raise GitError(f"more than {MAX_FILES} entries in {folder!r}")

    async def content(self, revision: str, path: str) -> bytes:
        where = f"/src/{revision}/{quote(path)}"
        return _whole(await self.get(where, {}, max_bytes=2 * MAX_FILE), path)


_SPECIAL = {"link", "subrepository"}
_API: dict[str, type[_Provider]] = {"github": _GitHub, "gitlab": _GitLab, "bitbucket": _Bitbucket}


async def _pages(page: Callable[[int], Awaitable[Answer]], folder: str) -> list[dict[str, Any]]:
    """All entries of a listing in pages; a short page is the last one."""
    found: list[dict[str, Any]] = []
    while len(found) <= MAX_FILES:
        answer = await page(len(found) // PAGE + 1)
        if answer.status == 404:
            raise _missing(folder)
        entries = answer.entries()
        found += entries
        if len(entries) < PAGE:
            if not found:
                raise _missing(folder)
            return found
    raise GitError(f"more than {MAX_FILES} entries in {folder!r}")


def _whole(answer: Answer, path: str) -> bytes:
    if answer.status == 404:
        raise GitError(f"{answer.host} lists {path!r} and does not give it")
    if len(answer.content) > MAX_FILE:
        raise GitError(f"the file {path!r} is larger than {MAX_FILE} bytes")
    return answer.content


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""
