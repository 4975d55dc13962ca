"""Five wrong passwords in ten minutes lock an e-mail for ten (contract-admin 1.5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gocdnext.auth import lockout
from gocdnext.auth.lockout import Lockout, TooManyTriesError

START = datetime(2026, 4, 28, 13, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def test_the_sixth_try_is_refused_for_ten_minutes_from_the_fifth() -> None:
    clock = Clock()
    tries = Lockout(clock)
    for minute in (0, 1, 2, 3, 9):
        clock.now = START + timedelta(minutes=minute)
        tries.begin("a")
    for minute in (9, 10, 18):
        clock.now = START + timedelta(minutes=minute)
        with pytest.raises(TooManyTriesError, match="too many attempts; try again later"):
            tries.begin("a")
    clock.now = START + timedelta(minutes=19)
    for _ in range(5):
        tries.begin("a")
    with pytest.raises(TooManyTriesError):
        tries.begin("a")


def test_slow_failures_do_not_lock() -> None:
    clock = Clock()
    tries = Lockout(clock)
    for minute in range(0, 60, 3):
        clock.now = START + timedelta(minutes=minute)
        tries.begin("a")


def test_success_and_failures_of_ours_do_not_count() -> None:
    tries = Lockout(Clock())
    for _ in range(20):
        tries.withdraw("a", tries.begin("a"))
    for _ in range(4):
        tries.begin("a")
    tries.succeeded("a")
    for _ in range(5):
        tries.begin("a")
    tries.begin("b")
    tries.withdraw("unknown", START)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "MOST", 3)
    tries = Lockout(Clock())
    for email in "abcd":
        tries.begin(email)
    assert list(tries._tries) == ["b", "c", "d"]
