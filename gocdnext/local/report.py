"""What `run-local` prints: lines for people, or one JSON object a line (contract-cli-plugins 4.5). It runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import orjson

from gocdnext.durations import format_duration

Write = Callable[[str], None]
"""Puts text on stdout, at once."""


class Report(Protocol):
    """Told in the order in which things happen; `code` is None for what has no exit code."""

    def stage(self, name: str) -> None: ...

    def service(self, name: str, image: str) -> None: ...

    def notice(self, step: str, text: str) -> None: ...

    def lines(self, step: str, stream: str, lines: Sequence[str]) -> None: ...

    def finished(self, step: str, error: str, code: int, seconds: float) -> None: ...

    def end(self, steps: int, failed: str, skipped: Sequence[str], seconds: float) -> None: ...


class TextReport:
    """For people. `clean` makes what a job prints harmless for the terminal."""

    def __init__(self, write: Write, clean: Callable[[str], str]) -> None:
        self._write = write
        self._clean = clean

    def stage(self, name: str) -> None:
        self._write(f"==> stage {self._clean(name)}\n")

    def service(self, name: str, image: str) -> None:
        self._write(f"==> service {name} up ({self._clean(image)})\n")

    def notice(self, step: str, text: str) -> None:
        self.lines(step, "", [text])

    def lines(self, step: str, stream: str, lines: Sequence[str]) -> None:
        head = f"[{self._clean(step)}] "
        self._write("".join(f"{head}{self._clean(line)}\n" for text in lines for line in text.split("\n")))

    def finished(self, step: str, error: str, code: int, seconds: float) -> None:
        if not error:
            self.lines(step, "", ["OK"])
        elif error == f"exited with {code}":  # of which the last line says as much
            self.lines(step, "", [f"FAILED (exit {code})"])
        else:
            self.lines(step, "", [f"error: {error}", f"FAILED (exit {code})"])

    def end(self, steps: int, failed: str, skipped: Sequence[str], seconds: float) -> None:
        if not failed:
            self._write(f"==> {steps} job(s) green in {format_duration(seconds)}\n")
            return
        what = f"; remaining stages skipped: {', '.join(skipped)}" if skipped else ""
        self._write(f"==> {self._clean(failed)} failed after {format_duration(seconds)}{self._clean(what)}\n")


class JsonReport:
    """For programs: each line has `event`, which is stage, service, notice, log, job or end."""

    def __init__(self, write: Write) -> None:
        self._print = write

    def _write(self, *documents: dict[str, object]) -> None:
        self._print("".join(orjson.dumps(document).decode() + "\n" for document in documents))

    def stage(self, name: str) -> None:
        self._write({"event": "stage", "stage": name})

    def service(self, name: str, image: str) -> None:
        self._write({"event": "service", "service": name, "image": image})

    def notice(self, step: str, text: str) -> None:
        self._write({"event": "notice", "job": step, "text": text})

    def lines(self, step: str, stream: str, lines: Sequence[str]) -> None:
        head: dict[str, object] = {"event": "log", "job": step, "stream": stream}
        self._write(*({**head, "text": line} for line in lines))

    def finished(self, step: str, error: str, code: int, seconds: float) -> None:
        self._write(
            {
                "event": "job",
                "job": step,
                "status": "failed" if error else "success",
                "exit_code": code,
                "error": error,
                "seconds": round(seconds, 3),
            }
        )

    def end(self, steps: int, failed: str, skipped: Sequence[str], seconds: float) -> None:
        self._write(
            {
                "event": "end",
                "status": "failed" if failed else "success",
                "jobs": steps,
                "failed": failed,
                "skipped_stages": list(skipped),
                "seconds": round(seconds, 3),
            }
        )
