"""The log conventions that viewers rely on (protocol-agent 3.4): command echoes and phase markers. Text only."""

from __future__ import annotations

from collections.abc import Sequence

from gocdnext.durations import format_duration

_RULE = "── "


def command(argv: Sequence[str]) -> str:
    """The echo of a command that the agent itself runs: its argument list in brackets."""
    return f"$ [{' '.join(argv)}]"


def script(text: str) -> str:
    """The echo of a task: the whole script as one text of several lines."""
    return f"$ {text}"


def plugin(image: str) -> str:
    """The echo of a plugin task."""
    return f"$ plugin {image}"


def service(name: str, image: str) -> str:
    """The echo before a service is started (protocol-agent 3.8)."""
    return f"$ starting service {name} ({image})"


def tasks_completed(seconds: float) -> str:
    """Closes the tasks phase of a job whose tasks all succeeded."""
    return f"{_RULE}tasks completed in {format_duration(seconds)}"


def tasks_failed(seconds: float, index: int, exit_code: int | None) -> str:
    """Closes the tasks phase; `exit_code` is None when the engine failed rather than the script."""
    why = f"task {index}: error" if exit_code is None else f"task {index}, exit {exit_code}"
    return f"{_RULE}tasks failed after {format_duration(seconds)} ({why})"


def note(text: str) -> str:
    """A remark of the agent about how it works, e.g. that a partial clone was not possible."""
    return f"{_RULE}{text}"
