"""`schema`, `explain` and `import`: what is printed where, and which exit code an ending has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gocdnext.pipeline import model, parse

Call = Callable[..., Any]

PIPELINE = """\
name: shop
concurrency: serial
when: {event: [push, pull_request], branch: [main], paths: ["src/**"]}
variables: {APP: shop}
materials: [{cron: {expression: "@daily"}}]
services: [{image: "postgres:16", env: {POSTGRES_PASSWORD: x}}]
notifications: [{on: failure, uses: org/slack@v1}]
stages: [build, ship]
jobs:
  .base: {image: "golang:1.25", tags: [linux]}
  unit:
    extends: .base
    stage: build
    script: [go vet, go test]
    parallel: {matrix: [{DB: [pg, lite]}]}
  ok: {stage: ship, approval: {approvers: [ann], required: 1, description: Ship it?}}
  deploy: {stage: ship, needs: [ok], uses: org/helm@v3, with: {release: shop}, deploy: {environment: prod}}
"""
GITLAB = "stages: [a]\nunit:\n  stage: a\n  script: [make]\n  coverage: /x/\n"
GITHUB = "name: CI\non: push\njobs:\n  unit:\n    runs-on: ubuntu-latest\n    steps: [{run: make}]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.yaml").write_text(PIPELINE)
    (tmp_path / ".gitlab-ci.yml").write_text(GITLAB)
    (tmp_path / "build.yml").write_text(GITHUB)
    return tmp_path


def test_schema(call: Call) -> None:
    outcome = call("schema")
    document = json.loads(outcome.out)
    jsonschema.Draft202012Validator.check_schema(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (outcome.code, outcome.out) == (0, call("schema", "--json").out)


def test_explain(folder: Path, call: Call) -> None:
    outcome = call("explain", "shop.yaml")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        "pipeline shop",
        "  one run at a time",
        "  variables: APP=shop",
        "starts on",
        "  the schedule @daily",
        "  push to main of the project's repository",
        "  pull request against main of the project's repository",
        "  only for changes of src/**",
        "  a person, always",
        "service postgres: postgres:16",
        "  environment: POSTGRES_PASSWORD=x",
        "notification on failure: org/slack@v1",
        "",
        "stage 1 build",
        "  unit: script in golang:1.25",
        "    2 instances: DB=pg; DB=lite",
        "    agents with: linux",
        "    | go vet",
        "    | go test",
        "",
        "stage 2 ship",
        "  deploy: plugin",
        "    runs org/helm:v3",
        "    settings: release=shop",
        "    needs: ok",
        "    deploys to: prod",
        "  ok: waits for people",
        "    1 of ann",
        "    Ship it?",
    ]


def test_explain_json_is_the_normal_form(folder: Path, call: Call) -> None:
    outcome = call("explain", "shop.yaml", "--json")
    assert outcome.out.encode() == model.encode(parse(PIPELINE, "shop.yaml")) + b"\n"


def test_explain_a_broken_file(folder: Path, call: Call) -> None:
    (folder / "bad.yaml").write_text("stages: [a]\njobs: {x: {stage: b}}\n")
    outcome = call("explain", "bad.yaml")
    assert outcome.code == 1
    assert "bad.yaml:2:" in outcome.out
    document = json.loads(call("explain", "bad.yaml", "--json").out)
    assert [problem["kind"] for problem in document["problems"]] == ["job_stage"]
    assert call("explain", "missing.yaml").code == 2


def test_explain_lets_nothing_through_to_the_terminal(folder: Path, call: Call) -> None:
    (folder / "odd.yaml").write_text('name: "a\\e[2J\\u202e"\nstages: []\njobs: {}\n')
    outcome = call("explain", "odd.yaml")
    assert "\x1b" not in outcome.out
    assert "\u202e" not in outcome.out


def test_import_prints_the_file_and_notes_apart(folder: Path, call: Call) -> None:
    outcome = call("import", "gitlab", ".gitlab-ci.yml")
    assert outcome.code == 0
    job = parse(outcome.out, "ci.yaml").job("unit")
    assert job is not None
    assert job.script == "set -e\nmake"
    assert any(line.startswith(".gitlab-ci.yml:5: `coverage`") for line in outcome.err.splitlines())


def test_import_json(folder: Path, call: Call) -> None:
    outcome = call("import", "github", "build.yml", "--json")
    document = json.loads(outcome.out)
    assert (set(document), outcome.err) == ({"yaml", "notes"}, "")
    assert parse(document["yaml"], "build.yaml").name == "CI"
    assert {"line", "what", "advice"} == set(document["notes"][0])


def test_import_writes_a_file_once(folder: Path, call: Call) -> None:
    outcome = call("import", "github", "build.yml", "-o", ".")
    written = folder / ".gocdnext" / "build.yaml"
    assert (outcome.code, outcome.out) == (0, "wrote .gocdnext/build.yaml\n")
    written.write_text("mine")
    refused = call("import", "github", "build.yml", "-o", ".")
    assert refused.code == 1
    assert "--force" in refused.err
    assert written.read_text() == "mine"
    assert call("import", "github", "build.yml", "-o", ".", "--force", "--json").code == 0
    assert parse(written.read_bytes(), "build.yaml").job("unit") is not None
    assert [file.name for file in written.parent.iterdir()] == ["build.yaml"]


def test_what_import_writes_is_valid(folder: Path, call: Call) -> None:
    assert call("import", "gitlab", ".gitlab-ci.yml", "-o", ".").code == 0
    assert call("validate").code == 0


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_import_of_nothing_useful(folder: Path, call: Call, json_flag: list[str]) -> None:
    (folder / "empty.yml").write_text("stages: [a]\ninclude: x.yml\n")
    outcome = call("import", "gitlab", "empty.yml", *json_flag)
    assert outcome.code == 1
    said = outcome.out if json_flag else outcome.err
    assert "no job could be translated" in said
    assert "included files are not read" in said
    assert not json_flag or json.loads(outcome.out)["line"] == 1


def test_usage(folder: Path, call: Call) -> None:
    assert call("import", "gitlab").code == 2
    assert call("import", "jenkins", "x").code == 2
    assert call("import", "github", "missing.yml").code == 2
    listing = call("import", "--help")
    assert "gitlab" in listing.out
    assert "github" in listing.out
