"""Board, alerts and code name the same metrics: none that is not exposed, none that nobody would ever see."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import yaml

from gocdnext.metrics import Metrics

ROOT = Path(__file__).resolve().parents[3]
BOARD = ROOT / "packaging" / "grafana" / "gocdnext.json"
RULES = ROOT / "packaging" / "prometheus" / "gocdnext.rules.yml"
OF_PROMETHEUS = {"up"}
NOT_SHOWN = {
    "process_virtual_memory_bytes", "process_start_time_seconds", "python_info", "go_info",
    "promhttp_metric_handler_errors",
}  # fmt: skip
"""Families that say nothing over time."""
_METRIC = re.compile(r"\b(?:gocdnext|process|go|python)_[a-z0-9_]+\b|\bup\b")


def families() -> dict[str, str]:
    """Every name that a query may use, with the family that it is of."""
    names = {}
    for family in Metrics().registry.collect():
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {family.name + ending: family.name for ending in endings}
    return names


def queries() -> dict[str, list[str]]:
    board, rules = json.loads(BOARD.read_text()), yaml.safe_load(RULES.read_text())
    return {
        "board": [target["expr"] for panel in board["panels"] for target in panel["targets"]],
        "rules": [rule["expr"] for group in rules["groups"] for rule in group["rules"]],
    }


def named(expressions: list[str]) -> set[str]:
    return {name for expression in expressions for name in _METRIC.findall(re.sub(r'"[^"]*"', '""', expression))}


async def test_every_metric_that_is_named_is_exposed() -> None:
    exposed = families().keys() | OF_PROMETHEUS
    for where, expressions in queries().items():
        assert named(expressions) - exposed == set(), where


async def test_every_metric_that_is_exposed_is_on_the_board() -> None:
    names = families()
    shown = {names[name] for name in named(queries()["board"])}
    assert set(names.values()) - shown - NOT_SHOWN == set()
    assert shown & NOT_SHOWN == set()


def test_the_board_is_what_its_program_draws() -> None:
    sys.path.insert(0, str(ROOT / "packaging"))
    try:
        import draw_board
    finally:
        sys.path.pop(0)
    assert BOARD.read_text() == draw_board.text(), "run: python packaging/draw_board.py"


def test_every_alert_says_what_to_do() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith(".")
