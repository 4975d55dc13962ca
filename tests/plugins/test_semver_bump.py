"""semver-bump: on real histories; which version follows from which messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.git_server import git
from tests.plugins.conftest import Workspace


@pytest.fixture
def repository(workspace: Workspace) -> Path:
    git(workspace.path, "init", "--quiet", "--initial-branch=main")
    commit(workspace.path, "first")
    return workspace.path


def commit(where: Path, *messages: str) -> None:
    for message in messages:
        git(where, "commit", "--quiet", "--allow-empty", "-m", message)


def values(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def bump(workspace: Workspace, **inputs: str) -> dict[str, str]:
    workspace.good("semver-bump", {name.replace("_", "-"): value for name, value in inputs.items()})
    return values(workspace.path / ".gocdnext" / "semver.env")


@pytest.mark.parametrize(
    ("messages", "version", "kind"),
    [
        ([], "1.2.3", "none"),
        (["whatever"], "1.2.4", "patch"),
        (["fix: a", "docs: b"], "1.2.4", "patch"),
        (["fix: a", "feat: b", "fix: c"], "1.3.0", "minor"),
        (["Feat(x): b"], "1.3.0", "minor"),
        (["feature: no"], "1.2.4", "patch"),
        (["feat!: b", "fix: c"], "2.0.0", "major"),
        (["refactor(x)!: b"], "2.0.0", "major"),
        (["fix: a\n\nwords\n\nBREAKING CHANGE: all of it"], "2.0.0", "major"),
        (["fix: a\n\nBREAKING-CHANGE: all of it"], "2.0.0", "major"),
        (["fix: no BREAKING CHANGE: here"], "1.2.4", "patch"),
        (["fix: line\n\nfeat!: in a body"], "1.2.4", "patch"),
    ],
)
def test_the_next_version(workspace: Workspace, repository: Path, messages: list[str], version: str, kind: str) -> None:
    git(repository, "tag", "v1.2.3")
    commit(repository, *messages)
    assert bump(workspace) == {"VERSION": version, "TAG": f"v{version}", "PREVIOUS_TAG": "v1.2.3", "BUMP": kind}


def test_the_first_version(workspace: Workspace, repository: Path) -> None:
    git(repository, "tag", "other")
    git(repository, "tag", "v1.x")
    assert bump(workspace)["TAG"] == "v0.1.0"
    assert bump(workspace, initial="1.0.0", prefix="none") == {
        "VERSION": "1.0.0", "TAG": "1.0.0", "PREVIOUS_TAG": "", "BUMP": "initial",
    }  # fmt: skip


def test_the_highest_tag_of_this_history_counts(workspace: Workspace, repository: Path) -> None:
    for tag in ("v1.9.0", "v1.10.0", "v2.0.0-rc.1", "w3.0.0"):
        git(repository, "tag", tag)
    git(repository, "checkout", "--quiet", "-b", "side")
    commit(repository, "feat!: elsewhere")
    git(repository, "tag", "v5.0.0")
    git(repository, "checkout", "--quiet", "main")
    commit(repository, "fix: x")
    assert bump(workspace)["TAG"] == "v1.10.1"
    assert bump(workspace, prefix="w")["TAG"] == "w3.0.1"
    assert bump(workspace, prior_tag="v1.9.0", force_kind="minor")["TAG"] == "v1.10.0"


def test_pre_releases_are_counted(workspace: Workspace, repository: Path) -> None:
    git(repository, "tag", "v1.0.0")
    commit(repository, "feat: x")
    assert bump(workspace, pre_release="rc")["TAG"] == "v1.1.0-rc.1"
    for number in (1, 2, 10):
        git(repository, "tag", f"v1.1.0-rc.{number}")
    assert bump(workspace, pre_release="rc") | {"BUMP": ""} == {
        "VERSION": "1.1.0-rc.11", "TAG": "v1.1.0-rc.11", "PREVIOUS_TAG": "v1.0.0", "BUMP": "",
    }  # fmt: skip
    assert bump(workspace, pre_release="beta")["TAG"] == "v1.1.0-beta.1"


def test_the_values_become_outputs_of_the_job(workspace: Workspace, repository: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs.env"
    outputs.write_text("")
    workspace.good("semver-bump", {"output": "x/y.env"}, GOCDNEXT_OUTPUT_FILE=str(outputs))
    assert values(outputs) == values(repository / "x" / "y.env")
    assert values(outputs)["TAG"] == "v0.1.0"


def test_a_cut_history_is_refused(workspace: Workspace, repository: Path, tmp_path: Path) -> None:
    commit(repository, "second")
    shallow = Workspace(tmp_path / "shallow", workspace.env)
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", "shallow")
    outcome = shallow.run("semver-bump", {})
    assert outcome.code == 1
    assert "fetch all of it" in outcome.err


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"initial": "1.0"}, "`initial` is '1.0'; write a version such as 1.2.3"),
        ({"initial": "01.0.0"}, "`initial` is '01.0.0'"),
        ({"pre-release": "r c"}, "write letters, digits and dashes"),
        ({"force-kind": "huge"}, "write major or minor or patch"),
        ({"prior-tag": "v1.0.0"}, "there is no such tag"),
        ({"prior-tag": "nonsense"}, "write a version such as 1.2.3"),
    ],
)
def test_wrong_inputs(workspace: Workspace, repository: Path, inputs: dict[str, str], words: str) -> None:
    outcome = workspace.run("semver-bump", inputs)
    assert outcome.code == 2
    assert words in outcome.err
