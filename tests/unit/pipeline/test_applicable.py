"""What the language reads but apply and `validate` refuse."""

from __future__ import annotations

from gocdnext.pipeline import check_applicable, check_file, check_set, parse, parse_file, parse_files


def test_an_ordinary_file_has_nothing_to_refuse() -> None:
    text = "stages: [s]\nservices: [{image: a}]\njobs:\n  a: {stage: s, script: [x], timeout: 1h, retry: 2}\n"
    assert check_file(parse_file(text, "a.yaml")) == []


def test_names_used_twice_or_reserved_are_refused_in_place() -> None:
    text = """\
name: _compliance
stages: [a, b, a, _compliance_s]
services:
  - image: pg
  - image: other/pg
jobs:
  _notify_0: {stage: a}
  _notify_me: {stage: a}
  _compliance_x: {stage: b}
"""
    found = check_applicable(parse(text, "a.yaml"), "a.yaml", text)
    assert {(p.kind, p.line, p.column, p.path) for p in found} == {
        ("name_reserved", 1, 7, "name"),
        ("stage_duplicate", 2, 16, "stages[2]"),
        ("name_reserved", 2, 19, "stages[3]"),
        ("service_duplicate", 5, 5, "services[1]"),
        ("name_reserved", 7, 3, "jobs._notify_0"),
        ("name_reserved", 9, 3, "jobs._compliance_x"),
    }
    without_source = check_applicable(parse(text, "a.yaml"), "a.yaml")
    assert [(p.message, p.path) for p in without_source] == [(p.message, p.path) for p in found]


def test_values_that_cannot_be_enforced_are_refused_in_place() -> None:
    text = """\
stages: [s]
jobs:
  a:
    stage: s
    script: [x]
    timeout: 2d
    retry: 99
    artifacts: {paths: [p], expire_in: some day}
  b: {stage: s, script: [x], timeout: -1h, retry: -1}
"""
    found = check_file(parse_file(text, "a.yaml"))
    assert [(p.kind, p.line) for p in found] == [
        ("job_timeout", 6),
        ("job_retry", 7),
        ("artifacts_expire_in", 8),
        ("job_timeout", 9),
        ("job_retry", 9),
    ]
    assert found[0].hint == "days and weeks are written in hours: `48h`"


def test_one_environment_has_one_target() -> None:
    def file(name: str, application: str) -> tuple[str, str]:
        target = f"{{cluster: c, application: {application}, sync_mode: observe}}"
        return (
            name,
            f"stages: [s]\njobs:\n  a: {{stage: s, script: [x], deploy: {{environment: e, target: {target}}}}}\n",
        )

    assert check_set(parse_files([file("a.yaml", "one"), file("b.yaml", "one")])) == []
    (problem,) = check_set(parse_files([file("a.yaml", "one"), file("b.yaml", "two")]))
    assert (problem.kind, problem.file, problem.line) == ("deploy_target", "b.yaml", 3)
    assert "a.yaml" in problem.message
