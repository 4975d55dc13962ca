"""release-notes: on real histories."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.git_server import git
from tests.plugins.conftest import Workspace


@pytest.fixture
def history(workspace: Workspace) -> Path:
    """A repository with a tag v1 and changes after it."""
    where = workspace.path
    git(where, "init", "--quiet", "--initial-branch=main")
    for message in ("first", "feat: old feature"):
        commit(where, message)
    git(where, "tag", "v1")
    for message in (
        "fix: a hole",
        "feat(api)!: another way\n\nThe old one is gone.",
        "feat(ui): colours",
        "chore: tidy\n\nBREAKING CHANGE: configuration moved",
        "Something else: with a colon",
        "no convention",
    ):
        commit(where, message)
    git(where, "checkout", "--quiet", "-b", "side", "v1")
    commit(where, "docs: words")
    git(where, "checkout", "--quiet", "main")
    git(where, "merge", "--quiet", "--no-ff", "-m", "Merge side", "side")
    return where


def commit(where: Path, message: str) -> None:
    git(where, "commit", "--quiet", "--allow-empty", "-m", message)


def lines(text: str) -> list[str]:
    """Lines without the ids of commits."""
    return [line.rpartition(" (")[0] or line for line in text.splitlines()]


def test_plain_since_the_last_tag(workspace: Workspace, history: Path) -> None:
    outcome = workspace.good("release-notes", {})
    text = (history / "RELEASE_NOTES.md").read_text()
    assert sorted(lines(text)) == [
        "- Something else: with a colon",
        "- chore: tidy",
        "- docs: words",
        "- feat(api)!: another way",
        "- feat(ui): colours",
        "- fix: a hole",
        "- no convention",
    ]
    assert outcome.out.startswith("release-notes: 7 change(s) since v1, written to RELEASE_NOTES.md:\n")
    assert outcome.out.endswith(text)
    first = text.splitlines()[0]
    assert git(history, "log", "-1", "--format=%s", first.rpartition("(")[2].removesuffix(")")) in first


def test_conventional_with_a_heading(workspace: Workspace, history: Path) -> None:
    inputs = {"format": "conventional", "heading": "Version 2", "output": "out/notes.md"}
    workspace.good("release-notes", inputs)
    assert lines((history / "out" / "notes.md").read_text()) == [
        "# Version 2",
        "",
        "## Breaking changes",
        "",
        "- tidy",
        "- **api:** another way",
        "",
        "## Features",
        "",
        "- **ui:** colours",
        "",
        "## Fixes",
        "",
        "- a hole",
        "",
        "## Documentation",
        "",
        "- words",
        "",
        "## Other changes",
        "",
        "- no convention",
        "- Something else: with a colon",
    ]


def test_between_two_commits(workspace: Workspace, history: Path) -> None:
    workspace.good("release-notes", {"from": "v1~1", "to": "v1"})
    assert lines((history / "RELEASE_NOTES.md").read_text()) == ["- feat: old feature"]
    workspace.good("release-notes", {"from": "HEAD"})
    assert (history / "RELEASE_NOTES.md").read_text() == "No changes.\n"


def test_of_a_tag_since_the_one_before(workspace: Workspace, history: Path) -> None:
    git(history, "tag", "v2")
    workspace.good("release-notes", {"to": "v2"})
    assert len((history / "RELEASE_NOTES.md").read_text().splitlines()) == 7


def test_without_any_tag_everything_counts(workspace: Workspace, history: Path) -> None:
    git(history, "tag", "--delete", "v1")
    workspace.good("release-notes", {})
    assert len((history / "RELEASE_NOTES.md").read_text().splitlines()) == 9


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"from": "v9"}, "`from` is 'v9', and there is no such commit"),
        ({"to": "--all"}, "`to` is '--all', and there is no such commit"),
        ({"format": "fancy"}, "write plain or conventional"),
    ],
)
def test_wrong_inputs(workspace: Workspace, history: Path, inputs: dict[str, str], words: str) -> None:
    outcome = workspace.run("release-notes", inputs)
    assert outcome.code == 2
    assert words in outcome.err


def test_a_place_that_cannot_be_written(workspace: Workspace, history: Path) -> None:
    outcome = workspace.run("release-notes", {"output": "/proc/notes"})
    assert outcome.code == 1
    assert outcome.err.startswith("release-notes: error: /proc/notes: ")
