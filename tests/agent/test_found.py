"""Paths and patterns: what they match, what they may not, and that nothing but files is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gocdnext.agent.found import FoundError, clean, find, open_regular, select

FILES = ["a.xml", "b/a.xml", "b/c/a.xml", "b/c/.hidden.xml", ".dot/x.xml", "b/a.txt", "dist/app.js", "dist/app.css"]


@pytest.fixture
def root(tmp_path: Path) -> str:
    for name in FILES:
        path = tmp_path / "job" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.xml").write_text("secret")
    (tmp_path / "job" / "out").symlink_to("../outside")
    (tmp_path / "job" / "loop").symlink_to(".")
    return str(tmp_path / "job")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.xml", ["a.xml"]),
        ("**/*.xml", [".dot/x.xml", "a.xml", "b/a.xml", "b/c/.hidden.xml", "b/c/a.xml"]),
        ("b/**", ["b/a.txt", "b/a.xml", "b/c/.hidden.xml", "b/c/a.xml"]),
        ("b/**/a.xml", ["b/a.xml", "b/c/a.xml"]),
        ("*/a.xml", ["b/a.xml"]),
        ("dist/*.{js,css}", ["dist/app.css", "dist/app.js"]),
        ("{dist,b/c}/a*", ["b/c/a.xml", "dist/app.css", "dist/app.js"]),
        ("b/a.[tx][!x]?", ["b/a.xml"]),
        ("./b//*.txt", ["b/a.txt"]),
        ("a.xml", ["a.xml"]),
        ("b", []),
        ("nowhere/*.xml", []),
        ("*/secret.xml", []),
        ("loop/*.xml", ["loop/a.xml"]),
    ],
)
def test_what_patterns_match(root: str, pattern: str, names: list[str]) -> None:
    assert find(root, pattern) == names


def test_order_is_that_of_bytes(tmp_path: Path) -> None:
    for name in ("b", "B", "é", "a-b", "a/b", "_"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find(str(tmp_path), "**") == ["B", "_", "a-b", "a/b", "b", "é"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("/etc/*", "absolute"),
        ("../*", "leads out"),
        ("a/../../*", "leads out"),
        ("out/*.xml", "a link that leads out"),
        ("a[b", "without its `\\]`"),
        ("{a,b", "without its `}`"),
        ("{1..2000}", "more than 1000 patterns"),
    ],
)
def test_what_patterns_are_refused(root: str, pattern: str, message: str) -> None:
    with pytest.raises(FoundError, match=message):
        find(root, pattern)


def test_the_number_of_matches_is_bounded(root: str) -> None:
    with pytest.raises(FoundError, match="matches more than 2 files; that is the limit"):
        find(root, "**", limit=2)


def test_a_walk_can_be_stopped(root: str) -> None:
    class StoppedError(Exception):
        pass

    def stop() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        find(root, "**", stop)


def test_a_path_with_wildcards_that_exists_is_that_file(root: str) -> None:
    Path(root, "[a].txt").touch()
    assert select(root, "[a].txt").names == ["[a].txt"]
    assert select(root, "b/").names == ["b"]
    assert select(root, "*.txt").names == ["[a].txt"]
    assert select(root, "nothing").names == []
    Path(root, "nowhere").symlink_to("gone")
    assert select(root, "nowhere").names == []


@pytest.mark.parametrize(
    ("path", "cleaned"), [("./a//b/", "a/b"), (".", ""), ("", ""), ("a..b", "a..b"), ("a/./b", "a/b")]
)
def test_clean(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned


def test_only_files_are_opened(root: str) -> None:
    os.mkfifo(os.path.join(root, "fifo"))
    Path(root, "null").symlink_to("/dev/null")
    Path(root, "link").symlink_to("b/a.txt")
    with os.fdopen(open_regular(root, "link")) as file:
        assert file.read() == "b/a.txt"
    for name, message in (
        ("fifo", "is not a file"),
        ("b", "is not a file"),
        ("null", "leads out"),
        ("out/secret.xml", "leads out"),
    ):
        with pytest.raises(FoundError, match=message):
            open_regular(root, name)
    with pytest.raises(FileNotFoundError):
        open_regular(root, "gone")
