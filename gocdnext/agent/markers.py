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


def download(path: str, job: str) -> str:
    """The echo before an artifact of another job is fetched."""
    return f"$ download artifact {path} (from {job})"


def opened(label: str) -> str:
    """Opens a phase that runs after the tasks, such as `artifact upload`."""
    return f"{_RULE}{label} …"


def done(label: str, seconds: float) -> str:
    """Closes a phase that was opened."""
    return f"{_RULE}{label} done in {format_duration(seconds)}"


def failed(label: str, seconds: float, detail: str) -> str:
    """Closes a phase that was opened, and did not do what it is for."""
    return f"{_RULE}{label} failed after {format_duration(seconds)} ({detail})"


def tasks_completed(seconds: float) -> str:
    """Closes the tasks phase of a job whose tasks all succeeded."""
    return f"{_RULE}tasks completed in {format_duration(seconds)}"


def tasks_failed(seconds: float, index: int, exit_code: int | None) -> str:
    """Closes the tasks phase; `exit_code` is None when the engine failed rather than the script."""
    why = f"task {index}: error" if exit_code is None else f"task {index}, exit {exit_code}"
    return f"{_RULE}tasks failed after {format_duration(seconds)} ({why})"


def size(count: int) -> str:
    """Bytes in decimal units: `512 B`, `1.5 kB`, `12.3 MB`."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def number(count: int, one: str, many: str) -> str:
    """A number with its noun: `1 entry`, `3 entries`."""
    return f"{count} {one if count == 1 else many}"


def note(text: str) -> str:
    """A remark of the agent about how it works, e.g. that a partial clone was not possible."""
    return f"{_RULE}{text}"
