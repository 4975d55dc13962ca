"""`validate`: the same verdict as a server, with the place of each problem."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gocdnext.cli.validate import excerpt

Call = Callable[..., Any]
GOOD = "name: {name}\nstages: [build]\njobs:\n  one: {{stage: build, script: [x]}}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".gocdnext").mkdir()
    (tmp_path / ".gocdnext" / "ci.yaml").write_text(GOOD.format(name="ci"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".gocdnext"


@pytest.mark.parametrize("path", [".", ".gocdnext", ".gocdnext/ci.yaml"])
def test_good_files(folder: Path, call: Call, path: str) -> None:
    outcome = call("validate", path)
    assert (outcome.code, outcome.out) == (0, 'OK   .gocdnext/ci.yaml — pipeline "ci", 1 job(s)\n')


def test_a_problem_has_a_place_and_its_line(folder: Path, call: Call) -> None:
    (folder / "bad.yaml").write_text("stages: [build]\njobs:\n  one:\n    stage: build\n    skript: [x]\n")
    outcome = call("validate")
    assert outcome.code == 1
    lines = outcome.out.splitlines()
    assert lines[0] == "FAIL .gocdnext/bad.yaml: 1 problem(s)"
    assert lines[1].startswith("  .gocdnext/bad.yaml:5:5: ")
    assert lines[2:4] == ["          skript: [x]", "          ^"]
    assert 'OK   .gocdnext/ci.yaml — pipeline "ci", 1 job(s)' in lines


def test_two_files_with_one_name(folder: Path, call: Call) -> None:
    (folder / "second.yml").write_text(GOOD.format(name="ci"))
    outcome = call("validate")
    assert outcome.code == 1
    assert "defined twice" in outcome.out


def test_json(folder: Path, call: Call) -> None:
    (folder / "bad.yaml").write_bytes(b"\xff")
    document = json.loads(call("validate", "--json").out)
    assert document["ok"] is False
    bad, good = document["files"]
    assert bad["problems"][0]["line"] == 1
    assert good == {
        "file": ".gocdnext/ci.yaml", "ok": True, "pipeline": "ci", "jobs": 1, "problems": [],
    }  # fmt: skip


def test_what_this_version_refuses(folder: Path, call: Call) -> None:
    (folder / "ci.yaml").write_text(GOOD.format(name="ci") + "  two: {stage: build, script: [x], cluster: big}\n")
    outcome = call("validate")
    assert outcome.code == 1
    assert "not available in this version" in outcome.out


PLUGIN = "name: ci\nstages: [build]\njobs:\n  one: {{stage: build, uses: {uses}, with: {{{inputs}}}}}\n"


def test_inputs_of_our_plugins_are_checked(folder: Path, call: Call) -> None:
    (folder / "ci.yaml").write_text(PLUGIN.format(uses="gocdnext/go@v1", inputs="comand: test"))
    outcome = call("validate")
    assert outcome.code == 1
    lines = outcome.out.splitlines()
    assert lines[1].startswith('  .gocdnext/ci.yaml:4:3: job "one": plugin go: required input "command" is missing')
    assert "    hint: did you mean `command`?" in lines
    (folder / "ci.yaml").write_text(PLUGIN.format(uses="gocdnext/go@v1", inputs="command: test"))
    assert call("validate").code == 0


def test_and_of_those_in_the_folders_of_this_machine(
    folder: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own" / "deployer").mkdir(parents=True)
    manifest = tmp_path / "own" / "deployer" / "plugin.yaml"
    manifest.write_text("name: deployer\ninputs: {where: {required: true}}")
    (folder / "ci.yaml").write_text(PLUGIN.format(uses="acme/deployer@v2", inputs=""))
    assert call("validate").code == 0
    monkeypatch.setenv("GOCDNEXT_PLUGIN_CATALOG_DIR", str(tmp_path / "own"))
    assert 'plugin deployer: required input "where" is missing' in call("validate").out
    manifest.write_text("nothing: x")
    outcome = call("validate")
    assert outcome.code == 1
    assert "lacks its `name`" in outcome.err


def test_no_files(tmp_path: Path, call: Call) -> None:
    assert call("validate", str(tmp_path)).code == 1
    assert call("validate", str(tmp_path / "nothing")).code == 2


@pytest.mark.parametrize(
    ("line", "column", "mark"),
    [("a: b", 4, "   ^"), ("\ta", 2, "\t^"), ("漢字: x", 5, "      ^"), ("short", 99, "     ^")],
)
def test_the_mark_is_below_its_column(line: str, column: int, mark: str) -> None:
    assert excerpt(line, column) == (line.replace("\t", "\t"), mark)


def test_a_long_line_is_cut_around_the_column() -> None:
    shown, mark = excerpt("x" * 500 + "Y" + "x" * 500, 501)
    assert len(shown) == 160
    assert shown[mark.index("^")] == "Y"
