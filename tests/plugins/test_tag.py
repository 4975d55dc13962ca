"""tag: on a real repository, pushed to a real one, over HTTP with a real password check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.git_server import PASSWORD, USER, git, http_git_server, make_repository
from tests.plugins.conftest import Workspace


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """`127.0.0.1:port` of a git server with the repository `origin.git`."""
    make_repository(tmp_path / "served" / "origin.git")
    git(tmp_path / "served" / "origin.git", "config", "http.receivepack", "true")
    with http_git_server(tmp_path / "served") as address:
        yield address


@pytest.fixture
def clone(tmp_path: Path, workspace: Workspace, server: str) -> str:
    """A clone in the workspace, and the revision it is at."""
    git(workspace.path, "clone", "--quiet", f"http://{USER}:{PASSWORD}@{server}/origin.git/.git", ".")
    git(workspace.path, "remote", "set-url", "origin", f"http://{server}/origin.git/.git")
    return git(workspace.path, "rev-parse", "HEAD")


def remote(tmp_path: Path, *arguments: str) -> str:
    return git(tmp_path / "served" / "origin.git", *arguments)


def test_a_plain_tag(tmp_path: Path, workspace: Workspace, clone: str) -> None:
    record = workspace.recording("git", tmp_path)
    outcome = workspace.good("tag", {"name": "v1.0.0", "token": PASSWORD})
    assert outcome.out == f"tag: tagged {clone[:12]} as v1.0.0\ntag: pushed v1.0.0\n"
    assert remote(tmp_path, "rev-parse", "v1.0.0") == clone
    assert remote(tmp_path, "cat-file", "-t", "v1.0.0") == "commit"
    assert PASSWORD not in record.read_text() + outcome.text
    assert "push" in record.read_text()


def test_a_message_makes_an_annotated_tag_of_another_commit(tmp_path: Path, workspace: Workspace, clone: str) -> None:
    inputs = {"name": "v1", "message": "First\n\nwith lines", "revision": "HEAD^", "token": PASSWORD}
    workspace.good("tag", inputs)
    assert remote(tmp_path, "cat-file", "-t", "v1") == "tag"
    assert remote(tmp_path, "rev-parse", "v1^{commit}") == git(workspace.path, "rev-parse", "HEAD^")
    assert remote(tmp_path, "for-each-ref", "--format=%(contents)", "refs/tags/v1") == "First\n\nwith lines"


def test_a_second_attempt_finds_it_done(tmp_path: Path, workspace: Workspace, clone: str) -> None:
    inputs = {"name": "v1", "message": "First", "token": PASSWORD}
    workspace.good("tag", inputs)
    outcome = workspace.good("tag", inputs)
    assert "the tag v1 is on" in outcome.out


def test_on_another_commit_it_needs_force(tmp_path: Path, workspace: Workspace, clone: str) -> None:
    workspace.good("tag", {"name": "v1", "revision": "HEAD^", "token": PASSWORD})
    outcome = workspace.run("tag", {"name": "v1", "token": PASSWORD})
    assert outcome.code == 1
    assert "set `force`" in outcome.err
    git(workspace.path, "tag", "--delete", "v1")
    outcome = workspace.run("tag", {"name": "v1", "token": PASSWORD})
    assert outcome.code != 0
    assert "the remote has this tag on another commit" in outcome.err
    workspace.good("tag", {"name": "v1", "token": PASSWORD, "force": "true"})
    assert remote(tmp_path, "rev-parse", "v1") == clone


def test_a_wrong_token(tmp_path: Path, workspace: Workspace, clone: str) -> None:
    outcome = workspace.run("tag", {"name": "v1", "token": "wrong-token"})
    assert outcome.code != 0
    assert "Authentication failed" in outcome.err
    assert "the token must be allowed to push" in outcome.err
    assert "wrong-token" not in outcome.text


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"token": "x"}, "the input `name` is missing"),
        ({"name": "v1"}, "the input `token` is missing"),
        ({"name": " ", "token": "x"}, "the input `name` is missing"),
        ({"name": "a..b", "token": "x"}, "does not allow as the name of a tag"),
        ({"name": "--delete", "token": "x"}, "must not begin with a dash"),
        ({"name": "v1", "revision": "nowhere", "token": "x"}, "there is no such commit"),
        ({"name": "v1", "revision": "--all", "token": "x"}, "must not begin with a dash"),
        ({"name": "v1", "remote": "--exec=x", "token": "x"}, "must not begin with a dash"),
        ({"name": "v1", "force": "perhaps", "token": "x"}, "write true or false"),
    ],
)
def test_wrong_inputs(workspace: Workspace, clone: str, inputs: dict[str, str], words: str) -> None:
    outcome = workspace.run("tag", inputs)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("tag: error: ")
    assert words in outcome.err
    assert outcome.err.count("\n") == 1


def test_outside_a_repository(workspace: Workspace) -> None:
    outcome = workspace.run("tag", {"name": "v1", "token": "x"})
    assert outcome.code != 0
    assert outcome.err.startswith("tag: error: ")
