"""Text for people: log lines made safe for a terminal, statuses in colour, durations and times.

Output of a job is not ours: it may hold sequences that retitle the window, move the cursor or fake a prompt. Only
colours (SGR) pass, and only to a terminal.
"""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime

import click

COLOURS = {
    "success": "green",
    "failed": "red",
    "canceled": "yellow",
    "skipped": "yellow",
    "running": "blue",
    "queued": "cyan",
    "awaiting_approval": "magenta",
}

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links, clipboard
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # DCS, SOS, PM, APC strings
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[ -/]*[0-~]?"  # other two-character sequences
)
_SGR = re.compile(r"\x1b\[[0-9;:]*m")
_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if code != 9}
_CONTROLS |= {0x7F: "\u2421"} | dict.fromkeys(range(0x80, 0xA0), "\ufffd")
# Marks that reorder or hide text (bidirectional overrides and isolates, zero width).
_CONTROLS |= dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x2028, 0x2029], "\ufffd")
RESET = "\x1b[0m"


def safe(text: str, colours: bool) -> str:
    """A line that can do nothing to a terminal but, with `colours`, colour itself; colours end with the line."""
    coloured = False

    def keep(match: re.Match[str]) -> str:
        nonlocal coloured
        if colours and _SGR.fullmatch(match[0]):
            coloured = True
            return match[0].replace("\x1b", "\x00")
        return ""

    # NUL stands in for ESC while the other control characters are shown as pictures; a NUL of the text is gone before.
    text = _ESCAPES.sub(keep, text.replace("\x00", "\u2400"))
    text = text.translate({code: shown for code, shown in _CONTROLS.items() if code != 0}).replace("\x00", "\x1b")
    return text + RESET if coloured else text


def colours_wanted() -> bool:
    """Whether log lines keep their colours: a terminal, and no NO_COLOR."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def status(word: str, width: int = 0) -> str:
    """A status in its colour; click drops the colour where it is not wanted."""
    return click.style(word.ljust(width), fg=COLOURS.get(word))


def moment(text: str | None) -> str:
    """An API time as local date and time, or a dash."""
    if not text:
        return "-"
    return parse(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(started: str | None, finished: str | None) -> str:
    """Time between two API times, until now when only the first is known, as `1m04s`; or a dash."""
    if not started:
        return "-"
    end = parse(finished) if finished else datetime.now(UTC)
    return seconds((end - parse(started)).total_seconds())


def seconds(number: float) -> str:
    """So many seconds as `0.4s`, `1m04s` or `2h00m05s`; less than none is none."""
    if number < 60:
        return f"{max(0.0, number):.1f}s"
    minutes, rest = divmod(int(number), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m{rest:02}s" if hours else f"{minutes}m{rest:02}s"


def parse(text: str) -> datetime:
    """An RFC 3339 time; digits beyond microseconds are cut."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
