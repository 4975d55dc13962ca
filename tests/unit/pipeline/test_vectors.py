"""The vectors of `tests/vectors`, and of the folders and files given on the command line: one test each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gocdnext.pipeline import PipelineError, parse, substitution
from gocdnext.pipeline.fingerprints import normal_git_url
from gocdnext.pipeline.model import decode, encode
from gocdnext.pipeline.substitution import NeededJob, OutputValue, SubstitutionError
from tests.vectors_options import PipelineVector, SubstitutionCase

OURS = ("timeout_seconds", "retry", "expire_in_seconds")
"""Keys that the general form of vectors does not know; compared only where a vector has one of them."""


def test_pipeline(pipeline_vector: PipelineVector) -> None:
    source, expected = pipeline_vector.path.read_bytes(), pipeline_vector.expected
    if "error" in expected:
        with pytest.raises(PipelineError) as refused:
            parse(source, pipeline_vector.path.name)
        assert expected["error"] in {problem.kind for problem in refused.value.problems}, str(refused.value)
        return
    pipeline = parse(source, pipeline_vector.path.name)
    encoded = encode(pipeline)
    found = json.loads(encoded)
    assert (found if _mentions_ours(expected) else _without_ours(found)) == expected
    assert encode(decode(encoded)) == encoded


def _mentions_ours(value: Any) -> bool:
    return any(f'"{key}":' in json.dumps(value) for key in OURS)


def _without_ours(value: Any) -> Any:
    """Jobs and artifacts without our keys; user maps (variables and the like) stay whole."""
    for job in value["jobs"]:
        for place in (job, job.get("artifacts", {})):
            for key in OURS:
                place.pop(key, None)
    return value


def test_substitution(substitution_case: SubstitutionCase) -> None:
    case = substitution_case
    if case.error is not None:
        with pytest.raises(SubstitutionError) as failed:
            _substitute(case)
        assert failed.value.kind == case.error
        return
    assert _substitute(case) == case.expect


def _substitute(case: SubstitutionCase) -> str:
    if case.kind == "strict":
        return substitution.strict(case.input, case.sources)
    if case.kind == "soft":
        return substitution.soft(case.input, case.sources)
    if case.kind == "needs":
        return substitution.needs(case.input, _needed(case.needs_table))
    if case.kind == "plugin_env":
        return substitution.plugin_env(case.input)
    assert case.kind == "git_url"
    return normal_git_url(case.input)


def _needed(table: dict[str, Any]) -> dict[str, NeededJob]:
    def outputs(values: dict[str, str]) -> dict[str, OutputValue]:
        return {alias: OutputValue(value) for alias, value in values.items()}

    plain = {job: NeededJob({"": outputs(values)}) for job, values in table["plain"].items()}
    matrix = {
        job: NeededJob({key: outputs(values) for key, values in keys.items()}, tuple(table["dimensions"][job]))
        for job, keys in table["matrix"].items()
    }
    return plain | matrix
