"""Schedules that can be meant, and those that start nothing and are refused with a place (design 9, decision 12)."""

from __future__ import annotations

import pytest

from gocdnext.pipeline import check_file, cron, parse_file


@pytest.mark.parametrize(
    "expression",
    [
        "* * * * *",
        "*/5 4 * * 1-5",
        "0 0 29 2 *",
        "0 0 * * mon",
        " 0 4 1 jan * ",
        "@daily",
        "@yearly",
        "@every 1h30m",
        "0 0 L * *",
    ],
)
def test_what_can_be_meant(expression: str) -> None:
    assert cron.trouble(expression) == ""


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("0 0 31 2 *", "never match"),
        ("0 0 30 feb *", "never match"),
        ("0 0 31 4,6,9,11 *", "never match"),
        ("61 * * * *", "bad minute"),
        ("* * * *", "five fields"),
        ("* * * * * *", "five fields"),
        ("", "five fields"),
        ("@fortnightly", "no descriptor"),
        ("@every", "a duration"),
        ("@every 0s", "a duration"),
        ("@every 7d", "a duration"),
        ("*" * 300, "longer than"),
    ],
)
def test_what_starts_nothing(expression: str, why: str) -> None:
    assert why in cron.trouble(expression)


def test_it_is_refused_with_its_place() -> None:
    text = "stages: []\njobs: {}\nmaterials:\n  - manual: true\n  - cron: {expression: '0 0 31 2 *'}\n"
    (problem,) = check_file(parse_file(text, "ci.yaml"))
    assert (problem.kind, problem.line, problem.path) == ("cron_expression", 5, "materials[1].cron.expression")
