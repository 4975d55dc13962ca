"""What a check has to say, and how checks are made: all at once, each within its own time, none able to stop the others."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import trio


class Status(StrEnum):
    """How a thing is. Only FAIL makes the command fail."""

    OK = "ok"
    WARN = "warn"
    """It works now, and will not one day, or not as well as it could."""
    FAIL = "fail"
    SKIPPED = "skipped"
    """Could not be looked at, or there is nothing to look at; `found` says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one thing. `advice` is what to do, for WARN and FAIL."""

    name: str
    status: Status
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Finding:
    """In order."""
    return Finding(name, Status.OK, found)


def warn(name: str, found: str, advice: str) -> Finding:
    """To be seen to, not today."""
    return Finding(name, Status.WARN, found, advice)


def fail(name: str, found: str, advice: str) -> Finding:
    """To be seen to now."""
    return Finding(name, Status.FAIL, found, advice)


def skipped(name: str, found: str) -> Finding:
    """Not looked at, and why."""
    return Finding(name, Status.SKIPPED, found)


Looked = Finding | Iterable[Finding]


@dataclass(frozen=True, slots=True)
class Check:
    """A look at one thing. `look` may block (it gets a thread of its own) or be a coroutine function."""

    name: str
    look: Callable[[], Looked | Awaitable[Looked]]
    within: float = 5.0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Examined:
    """The findings of one check, and the seconds that it took."""

    findings: tuple[Finding, ...]
    seconds: float


async def examine(checks: Sequence[Check]) -> list[Examined]:
    """Makes all checks at once; what they found in the order of `checks`."""
    examined: dict[int, Examined] = {}

    async def one(number: int, check: Check) -> None:
        began = time.monotonic()
        findings = await _looked(check)
        examined[number] = Examined(findings, round(time.monotonic() - began, 3))

    async with trio.open_nursery() as nursery:
        for number, check in enumerate(checks):
            nursery.start_soon(one, number, check)
    return [examined[number] for number in range(len(checks))]


async def _looked(check: Check) -> tuple[Finding, ...]:
    try:
        with trio.fail_after(check.within):
            if inspect.iscoroutinefunction(check.look):
                found = cast("Looked", await check.look())
            else:
                # Abandoned, not waited for: a mount whose server is away holds a thread for ever.
                found = await trio.to_thread.run_sync(lambda: _listed(check.look()), abandon_on_cancel=True)
    except trio.TooSlowError:
        slow = f"gave no answer within {check.within:g} s"
        return (
            warn(check.name, slow, "Something it asks hangs: a network mount, a name server, a program that waits."),
        )
    except Exception as error:
        # Whatever a broken machine makes a check raise is a finding, too, and the other checks go on.
        strange = f"could not be looked at: {error or type(error).__name__}"
        return (warn(check.name, strange, "Look at what it says; run doctor as the server's user or as root."),)
    return _listed(found)


def _listed(found: object) -> tuple[Finding, ...]:
    return (found,) if isinstance(found, Finding) else tuple(cast("Iterable[Finding]", found))
