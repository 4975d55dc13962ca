"""The schema for editors says what the parser says: the same keys, everything the parser takes, and no other key."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from gocdnext.pipeline import PipelineError, parse, scalars
from gocdnext.pipeline.json_schema import paths, pipeline_schema
from gocdnext.pipeline.key_words import WORDS
from gocdnext.pipeline.nodes import Node, Scalar, Sequence, decode, read
from gocdnext.pipeline.problems import Problems
from gocdnext.pipeline.schema import entries
from tests.vectors_options import PipelineVector

VALIDATOR = jsonschema.Draft202012Validator(pipeline_schema())


def core(node: Node) -> Any:
    """The value that a reader with the core types of YAML 1.2 sees, merges resolved."""
    if isinstance(node, Sequence):
        return [core(item) for item in node.items]
    if not isinstance(node, Scalar):
        return {name: core(value) for name, _, value in entries(node, Problems(""))}
    match scalars.core_tag(node):
        case "null":
            return None
        case "bool":
            return node.value in scalars.TRUE
        case "int" | "float" if "_" not in node.value:
            return scalars.number(node)
        case _:
            return node.value


def problems_of(text: str) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors(core(read(decode(text))))]


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(pipeline_schema())


def test_the_words_and_the_readers_have_the_same_keys() -> None:
    assert sorted(paths()) == sorted(WORDS)


def test_every_key_is_described() -> None:
    assert not [path for path, words in WORDS.items() if not words.says.endswith((".", "`"))]


def test_vector(pipeline_vector: PipelineVector) -> None:
    """What the parser takes passes; what it refuses for its keys is marked. Other refusals need more than shapes."""
    found = pipeline_vector.expected.get("error")
    if found in (None, "unknown_key"):
        problems = problems_of(pipeline_vector.path.read_text(encoding="utf-8"))
        assert bool(problems) == (found is not None), problems


JOB = "stages: [s]\njobs:\n  a:\n    stage: s\n    script: [x]\n"


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "version: 1.0\nstages: [~, 1]\n",
        "jobs: ~\nservices: [~]\nwhen: ~\nvariables: {A: ~, B: 1, C: yes}\n",
        "stages: [s]\njobs:\n  .t: ~\n  .u: {deploy: {}, artifacts: {when: sometimes}}\n  a: {extends: .t, stage: s}\n",
        "supersede: off\nconcurrency: ' Serial '\n",
        f"{JOB}    docker: yes\n    retry: 1_0\n",
        f"{JOB}    docker: OFF\n    retry: 2.7\n    timeout: 5\n",
        f"{JOB}    parallel: {{matrix: [{{A: [1, 1.10, true]}}], count: 3}}\n",
        f"{JOB}    parallel: {{matrix: ~}}\n    artifacts: ~\n    cache: []\n    approval: ~\n",
        f"{JOB}    outputs: {{a: A, b: {{env: B, masked: on}}}}\n    id_tokens: {{U: {{aud: [x, ~]}}}}\n",
        f"{JOB}    rules: []\n    needs: [~]\n    environment: '12'\n",
    ],
)
def test_odd_but_accepted(text: str) -> None:
    parse(text, "a.yaml")
    assert problems_of(text) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("stages: s\n", "$.stages"),
        ("pipeline: x\n", "$"),
        ("name: 'a:b'\n", "$.name"),
        ("concurrency: some\n", "$.concurrency"),
        ("supersede: false\n", "$.supersede"),
        ("when: {event: [pushes]}\n", "$.when.event[0]"),
        ("services: [{name: db}]\n", "$.services[0]"),
        ("notifications: [{on: success}]\n", "$.notifications[0]"),
        ("materials: [{}]\n", "$.materials[0]"),
        ("materials: [{git: {on: [cron]}}]\n", "$.materials[0].git.on[0]"),
        ("jobs: {a: {script: [x]}}\n", "$.jobs.a"),
        ("jobs: {a: ~}\n", "$.jobs.a"),
        ("jobs: {.a: {runs-on: x}}\n", "$.jobs['.a']"),
        (f"{JOB}    artifacts: {{when: sometimes}}\n", "$.jobs.a.artifacts.when"),
        (f"{JOB}    cache: [{{key: x}}]\n", "$.jobs.a.cache[0]"),
        (f"{JOB}    cache: [{{key: x, paths: []}}]\n", "$.jobs.a.cache[0].paths"),
        (f"{JOB}    docker: maybe\n", "$.jobs.a.docker"),
        (f"{JOB}    retry: many\n", "$.jobs.a.retry"),
        (f"{JOB}    outputs: {{Up: A}}\n", "$.jobs.a.outputs"),
        (f"{JOB}    coverage_report: {{path: c, format: html}}\n", "$.jobs.a.coverage_report.format"),
        (f"{JOB}    parallel: {{matrix: [~]}}\n", "$.jobs.a.parallel.matrix[0]"),
        (f"{JOB}    deploy: {{environment: 'a b'}}\n", "$.jobs.a.deploy.environment"),
        (f"{JOB}    environment: ~\n", "$.jobs.a.environment"),
    ],
)
def test_mistakes_have_their_place(text: str, path: str) -> None:
    with pytest.raises(PipelineError):
        parse(text, "a.yaml")
    assert path in problems_of(text)
