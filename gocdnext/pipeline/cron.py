"""Cron expressions: how they are read, and when they fire next (contract-admin 6.5; design 9, decision 12). Pure.

The search over days and minutes is cronsim's, over wall-clock times without a zone. Whatever zones do to the wall clock
is done here: a time that a day does not have is skipped, one that it has twice fires twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

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
HORIZON = timedelta(days=5 * 366)
"""An expression that matches nothing for so long does not fire any more."""
_SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S*)\s+(.*)", re.DOTALL)
_EVERYTHING = re.compile(r"[*?](?:/0*1)?")
_STEPS = re.compile(r"(\w+|\*|\?)(?:-(\w+))?/(\d+)", re.ASCII)
_SEVEN = re.compile(r"(?:^|[,-])0*7(?![0-9])")


@dataclass(frozen=True, slots=True)
class Schedule:
    """An expression that was read: five fields in the words of cronsim, or a length of time in `every`."""

    fields: str
    every: timedelta | None = None
    zone: tzinfo | None = None
    """The zone that the expression names; None: the server's."""

    def after(self, moment: datetime, *, since: datetime, zone: tzinfo) -> datetime | None:
        """The first fire after `moment`, in UTC; None when there is none within HORIZON.

        `since` is when the schedule began or fired last: `@every` counts from there. `zone` is the server's.
        """
        if self.every is not None:
            begun = since.astimezone(UTC).replace(microsecond=0)
            passed = max(moment - begun, timedelta(0)) // self.every
            return begun + (passed + 1) * self.every
        at, here = moment.astimezone(UTC).replace(microsecond=0), self.zone or zone
        end, just_before = at + HORIZON, timedelta(0)
        while at <= end:
            shift = _shift(here, at)
            wall = (at + shift).replace(tzinfo=None)
            try:
                found = next(CronSim(self.fields, wall - just_before)).replace(tzinfo=UTC) - shift
            except (CronSimError, StopIteration):
                return None
            turn = _turn(here, at, found)
            if turn is None:
                return found if found <= end else None
            # The wall clock is moved before it shows `found`: the search goes on at what it shows then.
            at, just_before = turn, _SECOND
        return None


def parse(expression: str) -> Schedule:
    """Reads an expression. Raises ValueError with what is wrong with one that can never start a run."""
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"the expression is longer than {MAX_LENGTH} characters")
    text, zone = expression.strip(), None
    if text.startswith(("TZ=", "CRON_TZ=")):
        named = _ZONE.fullmatch(text)
        if named is None:
            raise ValueError("after the time zone a space and the schedule are needed")
        zone, text = _zone(named[1]), named[2].strip()
    if text.startswith("@every"):
        seconds = durations.go_duration(text.removeprefix("@every").strip())
        if seconds is None or seconds < 1:
            raise ValueError("`@every` needs a duration of a second or more")
        return Schedule("", timedelta(seconds=int(seconds)), zone)
    if text.startswith("@") and text not in DESCRIPTORS:
        raise ValueError(f"there is no descriptor `{text}`")
    schedule = Schedule(_fields(DESCRIPTORS.get(text, text)), None, zone)
    if schedule.after(_SOME_DAY, since=_SOME_DAY, zone=UTC) is None:
        raise ValueError("it never matches")
    return schedule


def trouble(expression: str) -> str:
    """Why an expression can never start a run; empty for one that can."""
    try:
        parse(expression)
    except ValueError as error:
        return str(error)
    return ""


def _zone(name: str) -> tzinfo:
    """Raises ValueError for a zone that this system does not know."""
    try:
        return ZoneInfo(name)
    except (ValueError, LookupError, OSError):
        raise ValueError(f"there is no time zone `{name}`") from None


def _fields(text: str) -> str:
    """The five fields as cronsim has to see them to mean what they mean here. Raises ValueError."""
    fields = text.split()
    if len(fields) != 5:
        raise ValueError("five fields are needed: minute hour day month weekday")
    if _SEVEN.search(fields[4]):
        raise ValueError("bad day-of-week: Sunday is 0")
    minute, hour, day, month, weekday = fields
    plain = " ".join(
        (
            _field(minute, "0-59"),
            _field(hour, "0-23"),
            _field(day, "1-31"),
            _field(month, "1-12"),
            _field(weekday, "0-6"),
        )
    )
    try:
        CronSim(plain, _SOME_DAY)
    except CronSimError as error:
        reason = str(error)
        raise ValueError(f"it can never match: {reason[:1].lower()}{reason[1:]}") from None
    return plain


def _field(text: str, whole: str) -> str:
    """One field. A `*` in a list is the whole list; `*/2` restricts the days, which cronsim tells by the first character."""
    terms = text.split(",")
    if any(_EVERYTHING.fullmatch(term) for term in terms):
        return "*" if all(terms) else text
    return ",".join(_term(term, whole) for term in terms)


def _term(term: str, whole: str) -> str:
    steps = _STEPS.fullmatch(term)
    if steps is None:
        return term
    first, last, step = steps.groups()
    if first in ("*", "?"):
        return term if last else f"{whole}/{step}"
    if last is None:
        last = whole.partition("-")[2]
    # cronsim goes on to the end of the field from a range of one.
    return first if first == last and int(step) else f"{first}-{last}/{step}"


def _shift(zone: tzinfo, moment: datetime) -> timedelta:
    """What the wall clock of a zone is ahead of UTC at a moment."""
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _turn(zone: tzinfo, start: datetime, end: datetime) -> datetime | None:
    """The first second after `start`, and not after `end`, at which the wall clock is not moved as it was at `start`."""
    shift = _shift(zone, start)
    while start < end:
        later = min(start + _DAY, end)
        if _shift(zone, later) != shift:
            while later - start > _SECOND:
                middle = start + (later - start) // _SECOND // 2 * _SECOND
                start, later = (start, middle) if _shift(zone, middle) != shift else (middle, later)
            return later
        start = later
    return None
