"""When schedules fire: every matching minute of the wall clock once per time it is shown, in order, whatever zones do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gocdnext.pipeline import cron

MINUTE = timedelta(minutes=1)
BERLIN = "Europe/Berlin"
# Around moments at which clocks were moved: by an hour, half an hour, two hours, at midnight, and over a whole day.
TURNS = [
    (BERLIN, datetime(2026, 3, 29, 1, tzinfo=UTC)),
    (BERLIN, datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 2, 18, 2, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("Africa/Casablanca", datetime(2026, 2, 15, 2, tzinfo=UTC)),
    ("Asia/Kathmandu", datetime(2026, 6, 1, tzinfo=UTC)),
    ("UTC", datetime(2026, 2, 28, tzinfo=UTC)),
]


def after(expression: str, moment: datetime, zone: str = "UTC", since: datetime | None = None) -> datetime | None:
    return cron.parse(expression).after(moment, since=since or moment, zone=ZoneInfo(zone))


def fires(expression: str, start: datetime, end: datetime, zone: str) -> list[datetime]:
    found: list[datetime] = []
    at = after(expression, start, zone)
    while at is not None and at <= end:
        found.append(at)
        at = after(expression, at, zone)
    return found


@st.composite
def fields(draw: st.DrawFn) -> tuple[str, tuple[frozenset[int], ...], bool]:
    """An expression, the values of its fields, and whether both days have to match; worked out apart from the code."""
    texts: list[str] = []
    values: list[frozenset[int]] = []
    stars: list[bool] = []
    for low, high in ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6)):
        kind = draw(st.sampled_from(("star", "star", "one", "steps", "from", "range", "list")))
        a = draw(st.integers(low, high))
        b = draw(st.integers(a, high))
        n = draw(st.integers(1, 7))
        text, value, star = {
            "star": (draw(st.sampled_from("*?")), range(low, high + 1), True),
            "one": (str(a), range(a, a + 1), False),
            "steps": (f"*/{n}", range(low, high + 1, n), n == 1),
            "from": (f"{a}/{n}", range(a, high + 1, n), False),
            "range": (f"{a}-{b}/{n}", range(a, b + 1, n), False),
            "list": (f"{a},{b}", (a, b), False),
        }[kind]
        texts.append(text)
        values.append(frozenset(value))
        stars.append(star)
    return " ".join(texts), tuple(values), stars[2] or stars[4]


def shown(wall: datetime, values: tuple[frozenset[int], ...], both: bool) -> bool:
    minute, hour, day, month, weekday = values
    days = (wall.day in day, wall.isoweekday() % 7 in weekday)
    return wall.minute in minute and wall.hour in hour and wall.month in month and (all(days) if both else any(days))


@settings(max_examples=150, deadline=None)
@given(fields(), st.sampled_from(TURNS), st.integers(0, 59))
@example(("30 2 * * *", tuple(map(frozenset, ([30], [2], range(32), range(13), range(7)))), True), TURNS[0], 0)
@example(("30 2 * * *", tuple(map(frozenset, ([30], [2], range(32), range(13), range(7)))), True), TURNS[1], 0)
@example(("0 0 * * *", tuple(map(frozenset, ([0], [0], range(32), range(13), range(7)))), True), TURNS[8], 0)
def test_every_shown_minute_fires_once_in_order(
    made: tuple[str, tuple[frozenset[int], ...], bool], turn: tuple[str, datetime], second: int
) -> None:
    expression, values, both = made
    name, moment = turn
    zone = ZoneInfo(name)
    start, end = moment - timedelta(hours=30), moment + timedelta(hours=30)
    minutes = [start + MINUTE * number for number in range(1, 60 * 60 + 1)]
    expected = [at for at in minutes if shown(at.astimezone(zone), values, both)]
    try:
        cron.parse(expression)
    except ValueError:
        assert not expected
        return
    assert fires(expression, start + timedelta(seconds=second), end, name) == expected
    assert fires(f"TZ={name} {expression}", start, end, "Asia/Tokyo") == expected


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 0 1 * *", "15 1,2,3 * * 0", "0 4 29 2 *"]),
    st.sampled_from(sorted({name for name, _ in TURNS})),
    st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1)),
    st.lists(st.integers(0, 200_000), max_size=8),
)
def test_looking_more_often_changes_nothing(expression: str, zone: str, begin: datetime, steps: list[int]) -> None:
    """The next fire is the same from wherever before it one looks, and later looks never go back."""
    start = begin.replace(tzinfo=UTC)
    first = after(expression, start, zone)
    assert first is not None
    assert first > start
    for step in steps:
        moment = start + timedelta(seconds=step)
        found = after(expression, moment, zone)
        assert found is not None
        assert found == first if moment < first else found > moment


def test_a_time_that_a_day_does_not_have_is_skipped() -> None:
    start, end = datetime(2026, 3, 27, 12, tzinfo=UTC), datetime(2026, 3, 31, 12, tzinfo=UTC)
    assert [f"{at:%d %H:%M}" for at in fires("30 2 * * *", start, end, BERLIN)] == [
        "28 01:30", "30 00:30", "31 00:30",
    ]  # fmt: skip


def test_a_time_that_a_day_has_twice_fires_twice() -> None:
    start, end = datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 26, 12, tzinfo=UTC)
    assert [f"{at:%d %H:%M}" for at in fires("30 2 * * *", start, end, BERLIN)] == [
        "25 00:30", "25 01:30", "26 01:30",
    ]  # fmt: skip
    # Also for one who last looked in the winter before.
    assert after("30 2 25 10 *", datetime(2026, 1, 1, tzinfo=UTC), BERLIN) == start.replace(day=25, hour=0, minute=30)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # Both days restricted: either will do. A star beside a day, or `*/1`: both.
        ("0 0 13 * 5", ["03-06", "03-13", "03-20", "03-27"]),
        ("0 0 13 * */1", ["03-13"]),
        ("0 0 13 * *,1", ["03-13"]),
        ("0 0 */10 * 1", ["03-02", "03-09", "03-11", "03-16", "03-21", "03-23", "03-30", "03-31"]),
        ("0 0 ? * sun", ["03-08", "03-15", "03-22", "03-29"]),
        ("0 0 * * 4/2", ["03-05", "03-07", "03-12", "03-14", "03-19", "03-21", "03-26", "03-28"]),
        ("0 0 5-5/2 * *", ["03-05"]),
        ("0 0 L * *", ["03-31"]),
        ("@weekly", ["03-08", "03-15", "03-22", "03-29"]),
    ],
)
def test_days(expression: str, expected: list[str]) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    assert [f"{at:%m-%d}" for at in fires(expression, start, start + timedelta(days=30.5), "UTC")] == expected


def test_lengths_of_time_count_from_the_fire_before() -> None:
    begun = datetime(2026, 4, 28, 13, 0, 7, 250_000, tzinfo=UTC)
    assert after("@every 90m", begun, since=begun) == datetime(2026, 4, 28, 14, 30, 7, tzinfo=UTC)
    late = datetime(2026, 4, 29, 8, 0, tzinfo=UTC)
    assert after("@every 90m", late, since=begun) == datetime(2026, 4, 29, 8, 30, 7, tzinfo=UTC)
    assert after("@every 90m", begun - timedelta(days=1), since=begun) == datetime(2026, 4, 28, 14, 30, 7, tzinfo=UTC)
    assert after("@every 1.9s", begun, since=begun) == begun.replace(second=8, microsecond=0)


def test_what_is_further_than_five_years_does_not_fire() -> None:
    assert after("0 0 29 2 *", datetime(2096, 3, 1, tzinfo=UTC)) is None
    assert after("0 0 29 2 *", datetime(2095, 3, 1, tzinfo=UTC)) == datetime(2096, 2, 29, tzinfo=UTC)


def test_zones() -> None:
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert after("CRON_TZ=Asia/Tokyo 0 9 * * *", noon, BERLIN) == datetime(2026, 7, 2, 0, tzinfo=UTC)
    assert after("TZ=America/New_York   @daily", noon, BERLIN) == datetime(2026, 7, 2, 4, tzinfo=UTC)
    assert after("0 9 * * *", noon, BERLIN) == datetime(2026, 7, 2, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("TZ=Europe/Berlin", "a space and the schedule"),
        ("TZ=Nowhere/Atlantis 0 0 * * *", "no time zone `Nowhere/Atlantis`"),
        ("TZ=../../etc/passwd 0 0 * * *", "no time zone"),
        ("TZ=Europe 0 0 * * *", "no time zone"),
        ("TZ= 0 0 * * *", "no time zone"),
        ("0 0 * * 7", "Sunday is 0"),
        ("0 0 * * 5-7", "Sunday is 0"),
        ("*/0 * * * *", "bad minute"),
        ("5-1 * * * *", "bad minute"),
        ("1,,2 * * * *", "bad minute"),
        ("*,,2 * * * *", "bad minute"),
        ("-1 * * * *", "bad minute"),
        ("٣ * * * *", "bad minute"),
        ("*-5/2 * * * *", "bad minute"),
        ("a/2 * * * *", "bad minute"),
    ],
)
def test_what_is_refused(expression: str, why: str) -> None:
    assert why in cron.trouble(expression)
