"""The configuration folder of a git repository at a branch or commit, read through the git command line.

However large the repository is, only the folder's files are fetched where the server can leave the others out; time, room,
number and size of files are bounded. Links, submodules and sub-folders are left alone. Nothing here touches the database.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gocdnext.materials import git
from gocdnext.materials.git import Credential, GitError

FETCH_TIMEOUT = 60.0
"""Seconds to fetch a configuration folder, all commands together."""
MAX_FETCHED = 256 * 1024 * 1024
"""Bytes that a repository may send: the trees of a large one, or all files of a small one whose server sends them all."""
MAX_FOLDER = 5 * 1024 * 1024
"""Bytes of all files of a configuration folder together, as for an apply with files (spec-pipelines 7)."""
MAX_FILE = 1024 * 1024
"""Bytes of one file (contract-admin 9.1)."""
MAX_FILES = 1000

_REF = "refs/heads/configuration"
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none")
_PARTIAL = ("remote.origin.promisor=true", "remote.origin.partialclonefilter=blob:none", "gc.auto=0")
_NOOP = "fetch.negotiationAlgorithm=noop"
_WHOLE = ("remote.origin.promisor=false",)
"""What is not there is missing, and not fetched in the middle of reading."""


class FolderMissingError(GitError):
    """The repository and branch are there, the folder is not; `revision` is the commit that was looked at."""

    revision = ""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository: its name without the folder, and its bytes."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder's pipeline files by name, and the commit that has them."""

    revision: str
    files: tuple[RemoteFile, ...]


def is_yaml(name: str) -> bool:
    """Whether a file is one of those that are read (spec-pipelines 1.1)."""
    return name.endswith((".yaml", ".yml"))


async def read(
    url: str, branch: str, path: str, *, credential: Credential | None = None, timeout: float = FETCH_TIMEOUT
) -> Folder:
    """The regular YAML files directly in folder `path` at the head of `branch`; a `path` that is itself such a file is a
    folder of one. Raises FolderMissingError, GitError."""
    git.check_branch(branch)
    return await read_ref(url, f"refs/heads/{branch}", path, credential=credential, timeout=timeout)


async def read_ref(
    url: str,
    wanted: str,
    path: str,
    *,
    credential: Credential | None = None,
    settings: tuple[str, ...] = (),
    timeout: float = FETCH_TIMEOUT,
) -> Folder:
    """The same at what `wanted` says: `refs/heads/` and a checked branch, or the full id of a commit. `settings` are more of
    git's configuration. Raises FolderMissingError, GitError."""
    git.check_url(url)
    with tempfile.TemporaryDirectory(prefix="gocdnext-config-") as name, git.within(timeout):
        plain, secret = git.apart(url, credential)
        remote = _Remote(Path(name), plain, secret, settings)
        await git.run(("init", "--quiet", "--bare", "."), remote.where, git.MAX_OUTPUT)
        await remote.fetch_tree(wanted)
        head = await git.run(("rev-parse", "--verify", _REF), remote.where, git.MAX_OUTPUT)
        revision = head.decode().strip()
        try:
            return Folder(revision, tuple(await _files(remote, path)))
        except FolderMissingError as error:
            error.revision = revision
            raise


@dataclass(frozen=True, slots=True)
class _Remote:
    """A repository, and the folder that it is fetched into."""

    where: Path
    url: str
    secret: Mapping[str, str]
    settings: tuple[str, ...]

    async def fetch_tree(self, wanted: str) -> None:
        """The commit and its trees; its files too where the server cannot leave them out."""
        await self._fetch(("--depth=1", "origin", f"+{wanted}:{_REF}"))

    async def fetch_files(self, given: Path) -> None:
        """The objects in a list, the way in which git itself fetches what a partial clone lacks."""
        await self._fetch(("--stdin", "--refmap=", "origin"), given)

    async def _fetch(self, words: tuple[str, ...], given: Path | None = None) -> None:
        settings = (f"remote.origin.url={self.url}", *_PARTIAL, *((_NOOP,) if given else ()), *self.settings)
        words = (*_FETCH, *words)
        await git.run(words, self.where, git.MAX_OUTPUT, self.secret, settings=settings, given=given, room=MAX_FETCHED)


async def _files(remote: _Remote, path: str) -> list[RemoteFile]:
    parent, _, last = path.rpartition("/")
    single = is_yaml(last)
    tree = f"{_REF}:{parent if single else path}"
    try:
        listing = await git.run(("ls-tree", "-z", tree), remote.where, git.MAX_OUTPUT, settings=_WHOLE)
    except GitError as error:
        if "not a tree" in str(error) or "ot a valid object name" in str(error):
            raise FolderMissingError(f"no folder {path!r} at the head of the branch") from None
        raise
    found = {}
    for entry in listing.decode(errors="replace").split("\0"):
        meta, _, name = entry.partition("\t")
        if meta.startswith("100") and is_yaml(name) and (not single or name == last):
            found[name] = meta.split()[2]
    if single and not found:
        raise FolderMissingError(f"no file {path!r} at the head of the branch")
    if len(found) > MAX_FILES:
        raise GitError(f"more than {MAX_FILES} files in {path!r}")
    contents = await _contents(remote, sorted(set(found.values())), path) if found else {}
    if (size := sum(len(contents[blob]) for blob in found.values())) > MAX_FOLDER:
        raise GitError(f"the files in {path!r} are {size} bytes together, more than {MAX_FOLDER}")
    return [RemoteFile(name, contents[found[name]]) for name in sorted(found)]


async def _contents(remote: _Remote, blobs: list[str], path: str) -> dict[str, bytes]:
    """What these blobs contain; those that the server has left out are fetched, all in one go."""
    given = remote.where / "wanted"
    given.write_text("".join(f"{blob}\n" for blob in blobs))
    contents = await _sizes_checked(remote, given, path)
    if missing := [blob for blob in blobs if blob not in contents]:
        given.write_text("".join(f"{blob}\n" for blob in missing))
        await remote.fetch_files(given)
        contents |= await _sizes_checked(remote, given, path)
    if any(blob not in contents for blob in missing):
        raise GitError(f"the repository does not give all files in {path!r}")
    return contents


async def _sizes_checked(remote: _Remote, given: Path, path: str) -> dict[str, bytes]:
    """The blobs of the list that are here. Nothing is read before it is known to fit."""
    check = ("cat-file", "--batch-check=%(objectname) %(objectsize)")
    listing = await git.run(check, remote.where, git.MAX_OUTPUT, settings=_WHOLE, given=given)
    sizes = [line.split() for line in listing.decode().splitlines() if not line.endswith(" missing")]
    if any(int(size) > MAX_FILE for _, size in sizes):
        raise GitError(f"a file in {path!r} is larger than {MAX_FILE} bytes")
    if not sizes:
        return {}
    if (total := sum(int(size) for _, size in sizes)) > MAX_FOLDER:
        raise GitError(f"the files in {path!r} are {total} bytes together, more than {MAX_FOLDER}")
    here = remote.where / "here"
    here.write_text("".join(f"{blob}\n" for blob, _ in sizes))
    output = await git.run(("cat-file", "--batch"), remote.where, total + 200 * len(sizes), settings=_WHOLE, given=here)
    return dict(_parts(output))


def _parts(output: bytes) -> list[tuple[str, bytes]]:
    """What `cat-file --batch` prints: a line with name, type and size before each object, a line's end behind it."""
    found = []
    at = 0
    while at < len(output):
        head, _, _ = output[at : at + 200].partition(b"\n")
        name, _, size = head.decode().split()
        begin = at + len(head) + 1
        found.append((name, output[begin : begin + int(size)]))
        at = begin + int(size) + 1
    return found
