"""Errors as a product: all of them, each once, at the right place, with the fix where it can be known."""

from __future__ import annotations

import pytest

from gocdnext.pipeline import PipelineError, Problem, parse, parse_files
from gocdnext.pipeline.problems import MAX_PROBLEMS


def problems(text: str | bytes, filename: str = "ci.yaml") -> tuple[Problem, ...]:
    with pytest.raises(PipelineError) as refused:
        parse(text, filename)
    return refused.value.problems


MANY = """\
stages: [build, test]
concurency: serial
jobs:
  .base: &base
    cache: [{key: 'a-{{ bad }}', paths: [x]}]
  build:
    extends: .base
    stage: biuld
    script: make
    docker: "true"
  unit:
    stage: test
    extends: .base
    needs: [bild, unit]
    script: [make test]
    with space:
      - a
"""


def test_every_problem_with_its_place_path_and_fix() -> None:
    assert [str(problem) for problem in problems(MANY)] == [
        "ci.yaml:2:1: unknown key `concurency` in a pipeline (concurency); did you mean `concurrency`?",
        'ci.yaml:5:19: the cache key has a `{{` that is not part of `{{ hash "FILE" }}` '
        '(jobs[".base"].cache[0].key); a key is a text such as `go-{{ hash "go.sum" }}`',
        "ci.yaml:8:12: the stage `biuld` is not in `stages` (jobs.build.stage); did you mean `build`?",
        'ci.yaml:9:13: expected a list, not the text "make" (jobs.build.script); write it as `[…]`',
        'ci.yaml:10:13: expected true or false, not the quoted text "true" (jobs.build.docker); remove the quotes',
        "ci.yaml:14:13: there is no job `bild` (jobs.unit.needs[0]); did you mean `build`?",
        "ci.yaml:14:19: the job needs itself (jobs.unit.needs[1])",
        'ci.yaml:16:5: unknown key `with space` in a job (jobs.unit["with space"])',
    ]


def test_an_inherited_problem_is_told_once() -> None:
    jobs = "".join(f"  j{n}: {{extends: .b, stage: s}}\n" for n in range(20))
    found = problems(f"stages: [s]\njobs:\n  .b: {{cluster: Prod, script: [x]}}\n{jobs}")
    assert [(problem.kind, problem.line) for problem in found] == [("cluster_name", 3)]


def test_what_could_not_be_read_is_not_blamed_again() -> None:
    text = """\
stages: build
jobs:
  a: {stage: build, script: x, deploy: {environment: p}}
  b: [1]
  c: {stage: s, needs: [b]}
"""
    assert [problem.kind for problem in problems(text)] == ["wrong_type"] * 3


def test_problems_of_jobs_in_a_broken_chain_are_not_guessed() -> None:
    text = "stages: [s]\njobs:\n  a: {extends: .gone}\n  b: {extends: a, needs: [a]}\n"
    assert [problem.kind for problem in problems(text)] == ["extends_unknown"]


def test_the_number_of_problems_is_bounded() -> None:
    jobs = "".join(f"  j{n}: {{stage: s, colour{n}: red}}\n" for n in range(MAX_PROBLEMS * 2))
    assert len(problems(f"stages: [s]\njobs:\n{jobs}")) == MAX_PROBLEMS


def test_long_and_unprintable_text_is_shortened() -> None:
    text = 'stages: [s]\njobs:\n  "' + "x" * 3000 + '\\n": {stage: "a\\x1b[31m' + "y" * 3000 + '"}\n'
    (problem,) = problems(text)
    assert "\x1b" not in str(problem)
    assert "\n" not in str(problem)
    assert len(str(problem)) < 500


def test_the_error_says_how_many_more() -> None:
    with pytest.raises(PipelineError, match=r"^ci\.yaml:1:1: .* \(and 1 more problem\)$"):
        parse("a: 1\nb: 2\n", "ci.yaml")


@pytest.mark.parametrize(
    ("text", "line", "column", "part"),
    [
        (b"stages: [s]\nname: \xff", 2, 7, "not UTF-8"),
        ("stages: [s]\nname: a\0b", 2, 8, "NUL"),
        ("name: \udc80", 1, 7, "U+DC80"),
        ("stages: [s]\njobs:\n\tx: 1\n", 3, 1, "not valid YAML"),
        ("a: *x", 1, 4, "no anchor"),
        ("a: 'b", 1, 6, "not valid YAML"),
    ],
)
def test_syntax(text: str | bytes, line: int, column: int, part: str) -> None:
    (problem,) = problems(text)
    assert (problem.kind, problem.line, problem.column) == ("yaml_syntax", line, column)
    assert part in problem.message


def test_tab_hint() -> None:
    (problem,) = problems("stages: [s]\njobs:\n\tx: 1\n")
    assert problem.hint == "indent with spaces, not with tabs"


def test_a_set_of_files_tells_everything_and_is_sorted() -> None:
    files: list[tuple[str, str | bytes]] = [
        ("z.yaml", "name: a\n"),
        ("y.yaml", b"name: b\n"),
        ("x.yml", "jobs: 1"),
        ("w.yaml", "name: a\nstages: 1"),
    ]
    with pytest.raises(PipelineError) as refused:
        parse_files(files)
    assert [(p.file, p.line, p.kind) for p in refused.value.problems] == [
        ("w.yaml", 2, "wrong_type"),
        ("x.yml", 1, "wrong_type"),
    ]
    assert [(parsed.pipeline.name, parsed.filename) for parsed in parse_files(files[:2])] == [
        ("a", "z.yaml"),
        ("b", "y.yaml"),
    ]
    assert parse_files(files[:1])[0].source == "name: a\n"


def test_two_files_with_one_name() -> None:
    with pytest.raises(PipelineError) as refused:
        parse_files([("one.yaml", "name: p\n"), ("p.yml", "stages: []\n")])
    (problem,) = refused.value.problems
    assert (problem.kind, problem.file) == ("name_duplicate", "p.yml")
    assert problem.message == 'pipeline "p" defined twice: one.yaml and p.yml'


@pytest.mark.parametrize(
    ("filename", "name"),
    [("a.b.yaml", "a.b"), ("dir/x.yml", "x"), ("plain", "plain"), ("C:\\ci\\w.yaml", "w")],
)
def test_the_name_comes_from_the_file(filename: str, name: str) -> None:
    assert parse("stages: []", filename).name == name


def test_a_pipeline_needs_a_name() -> None:
    assert [problem.kind for problem in problems("stages: []", ".yaml")] == ["name_empty"]
