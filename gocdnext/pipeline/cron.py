"""Cron expressions of materials: whether one can be meant (spec-pipelines 9.8; design 9, decision 12). Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from gocdnext import durations

DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MAX_LENGTH = 256
_SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)


def trouble(expression: str) -> str:
    """Why an expression can never start a run; empty for one that can."""
    text = expression.strip()
    if len(text) > MAX_LENGTH:
        return f"the expression is longer than {MAX_LENGTH} characters"
    if text.startswith("@every"):
        seconds = durations.go_duration(text.removeprefix("@every").strip())
        return "" if seconds is not None and seconds >= 1 else "`@every` needs a duration of a second or more"
    if text.startswith("@") and text not in DESCRIPTORS:
        return f"there is no descriptor `{text}`"
    fields = DESCRIPTORS.get(text, text)
    if len(fields.split()) != 5:
        return "five fields are needed: minute hour day month weekday"
    try:
        next(CronSim(fields, _SOME_DAY))
    except CronSimError as error:
        return f"it can never match: {str(error)[:1].lower()}{str(error)[1:]}"
    except StopIteration:
        return "it never matches"
    return ""
