"""A pytest plugin: `--pipeline-vectors DIR` and `--substitution FILE` add vectors to the project's own.

A test that takes the argument `pipeline_vector` or `substitution_case` runs once for each vector. Registered by name in
`pytest_plugins` of the root conftest, because options have to be known before tests are collected.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

OWN = Path(__file__).parent / "vectors"
BESIDE = Path(__file__).parents[2] / "shared" / "vectors"
"""A set beside the checkout, where there is one: played as well when no other is named."""


@dataclass(frozen=True)
class PipelineVector:
    """A file of the language and its normal form, or `{"error": kind}`."""

    path: Path
    expected: dict[str, Any]


@dataclass(frozen=True)
class SubstitutionCase:
    kind: str
    input: str
    sources: list[dict[str, str]]
    expect: str | None
    error: str | None
    needs_table: dict[str, Any] = field(repr=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vectors")
    group.addoption("--pipeline-vectors", action="append", default=[], metavar="DIR", help="add NAME.yaml + NAME.json")
    group.addoption("--substitution", action="append", default=[], metavar="FILE", help="add substitution cases")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "pipeline_vector" in metafunc.fixturenames:
        folders = [OWN / "pipelines", *_further(metafunc, "--pipeline-vectors", BESIDE / "pipelines")]
        vectors = [vector for folder in dict.fromkeys(map(Path.resolve, folders)) for vector in _pipelines(folder)]
        metafunc.parametrize("pipeline_vector", vectors, ids=[vector.path.stem for vector in vectors])
    if "substitution_case" in metafunc.fixturenames:
        files = [OWN / "substitution.json", *_further(metafunc, "--substitution", BESIDE / "substitution.json")]
        cases = [case for file in dict.fromkeys(map(Path.resolve, files)) for case in _substitutions(file)]
        metafunc.parametrize("substitution_case", cases, ids=[f"{case.kind}-{n}" for n, case in enumerate(cases)])


def _further(metafunc: pytest.Metafunc, option: str, beside: Path) -> list[Path]:
    named: list[Path] = [Path(name) for name in metafunc.config.getoption(option)]
    return named or ([beside] if beside.exists() else [])


def _pipelines(folder: Path) -> list[PipelineVector]:
    paths = sorted(path for path in folder.glob("*.yaml") if path.with_suffix(".json").is_file())
    if not paths:
        raise pytest.UsageError(f"--pipeline-vectors: no NAME.yaml with NAME.json in {folder}")
    return [PipelineVector(path, json.loads(path.with_suffix(".json").read_bytes())) for path in paths]


def _substitutions(file: Path) -> list[SubstitutionCase]:
    try:
        table = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise pytest.UsageError(f"--substitution: {error}") from None
    return [
        SubstitutionCase(
            kind=case["kind"],
            input=case["input"],
            sources=case.get("sources", []),
            expect=case.get("expect"),
            error=case.get("error"),
            needs_table=table.get("needs_table", {}),
        )
        for case in table["cases"]
    ]
