"""Files made to hurt: each ends in a clear refusal, early. Times and memory are in `tests/bench/pipeline.py`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gocdnext.pipeline import PipelineError, parse
from gocdnext.pipeline.language import JOB, PIPELINE
from gocdnext.pipeline.model import encode
from tests.bench.pipeline import HOSTILE


@pytest.mark.parametrize(("name", "text", "kind"), HOSTILE, ids=[name for name, _, _ in HOSTILE])
def test_hostile(name: str, text: str | bytes, kind: str) -> None:
    with pytest.raises(PipelineError) as refused:
        parse(text, "ci.yaml")
    assert kind in {problem.kind for problem in refused.value.problems}


def test_python_tags_are_just_unknown_tags() -> None:
    text = "!!python/object/apply:os.system\nname: !!python/name:os.system x\nstages: []\n"
    assert parse(text, "ci.yaml").name == "x"


def test_shared_text_is_not_copied_per_job() -> None:
    jobs = "".join(f"  j{n}: {{stage: s, script: [*t]}}\n" for n in range(10))
    pipeline = parse(f"stages: [s]\njobs:\n  .t: {{script: [&t '{'x' * 1_000_000}']}}\n{jobs}", "ci.yaml")
    assert len({id(job.script) for job in pipeline.jobs}) == 1


BELOW = ["event", "paths", "status", "target", "key", "aud", "git", "url", "upstream", "cron", "expression", "matrix"]
ODD = ["<<", ".a", "a", "b", "~", "1", "true"]
KEYS = st.sampled_from([*PIPELINE.fields, *JOB.fields, *BELOW, *ODD])
SCALARS = st.one_of(
    st.sampled_from(["", "~", "true", "off", "1", "010", "1.5", ".nan", "-.inf", "2020-01-01", "s", ".a", "a", "push"]),
    st.sampled_from(
        ["'{{ hash \"x\" }}'", "'${{ needs.a.outputs.b }}'", "!!int x", "!!binary eA==", "&x 1", "*x", "7d"]
    ),
    st.text(max_size=6).map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: "[" + ", ".join(items) + "]"),
        st.lists(st.tuples(KEYS, inner), max_size=5).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=25,
)


def outcome(text: str | bytes) -> bytes | str:
    """The parser's answer; whatever it raises other than `PipelineError` fails the test."""
    try:
        return encode(parse(text, "ci.yaml"))
    except PipelineError as error:
        refused = error
    assert refused.problems
    assert all(problem.line > 0 and problem.column > 0 and problem.kind for problem in refused.problems)
    return str(refused)


@settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.lists(st.tuples(KEYS, VALUES), max_size=8))
def test_nothing_but_pipeline_errors_from_structured_text(pairs: list[tuple[str, str]]) -> None:
    text = "".join(f"{key}: {value}\n" for key, value in pairs)
    assert outcome(text) == outcome(text)


@settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.lists(st.tuples(KEYS, VALUES), max_size=8))
def test_nothing_but_pipeline_errors_from_jobs(pairs: list[tuple[str, str]]) -> None:
    keys = "".join(f"    {key}: {value}\n" for key, value in pairs)
    outcome(f"stages: [s]\njobs:\n  .a: {{stage: s}}\n  a:\n    extends: .a\n{keys}")


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_nothing_but_pipeline_errors_from_noise(text: str | bytes) -> None:
    outcome(text)
