"""What is being done, for the log and for traces: ids that every line carries, and a span where OpenTelemetry is switched on.

Tracing is an extra. Without `OTEL_EXPORTER_OTLP_ENDPOINT` nothing of OpenTelemetry is imported and a block of `doing` only
binds its ids; with it and without the packages (`pip install gocdnext[otlp]`) the log says so once. What is sent are names,
ids, durations and whether something failed: no path, no body, no text of an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import structlog

from gocdnext import __version__

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""The standard variables; the others of OTEL_EXPORTER_OTLP_* and OTEL_TRACES_SAMPLER are read by the library itself."""
QUEUE, BATCH = 2048, 256
"""Spans that wait for the collector at most, the newer ones are dropped; and that are sent at once."""
EXPORT_MILLIS = 3000
"""What one export may take before its spans are given up."""
FAREWELL = 1.0
"""Seconds that the last spans get when the server stops: nobody waits for a collector."""
_log = structlog.get_logger(__name__)

Id = UUID | str | int
Open = Callable[[str, Mapping[str, Id], Mapping[str, str] | None], AbstractContextManager[Any]]
"""Opens a span with a name, ids, and the headers of whoever asked for it (`traceparent`)."""


class _Tracer:
    """Where spans are opened, if anywhere. One for the process, as the log is."""

    open: Open | None = None


class doing:
    """A block in which every log line carries `ids`, and which is a span named `what` where tracing is on.

    `span` is the open span, to add what is only known at the end, or None.
    """

    __slots__ = ("_headers", "_ids", "_opened", "_tokens", "_what", "span")

    def __init__(self, what: str, headers: Mapping[str, str] | None = None, **ids: Id) -> None:
        self._what, self._ids, self._headers = what, ids, headers
        self._opened: AbstractContextManager[Any] | None = None
        self.span: Any = None

    def __enter__(self) -> Self:
        if _Tracer.open is not None:
            self._opened = _Tracer.open(self._what, self._ids, self._headers)
            self.span = self._opened.__enter__()
            self._ids = {**self._ids, "trace_id": format(self.span.get_span_context().trace_id, "032x")}
        self._tokens = structlog.contextvars.bind_contextvars(**self._ids)
        return self

    def learned(self, **ids: Id) -> None:
        """What was not known at the beginning, for the span alone."""
        if self.span is not None:
            self.span.set_attributes({f"gocdnext.{name}": str(value) for name, value in ids.items()})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        structlog.contextvars.reset_contextvars(**self._tokens)
        if self._opened is not None:
            self._opened.__exit__(kind, error, trace)


def on() -> bool:
    """Whether spans are opened."""
    return _Tracer.open is not None


def start(environ: Mapping[str, str], *, offline: bool = False) -> Callable[[], None]:
    """Switches tracing on if it is asked for and can be had. Gives what ends it, a call that sends what still waits
    and blocks for at most FAREWELL.
    """
    endpoint = next((environ[name] for name in ENDPOINTS if environ.get(name)), "")
    if not endpoint or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return _nothing
    host = urlsplit(endpoint).hostname or ""
    if offline and host not in ("localhost", "127.0.0.1", "::1"):
        _log.warning("no traces are sent: with GOCDNEXT_OFFLINE the collector must be on this machine", collector=host)
        return _nothing
    try:
        from gocdnext.otlp import switch_on
    except ImportError:
        _log.warning(
            f"no traces are sent: {ENDPOINTS[1]} is set, but OpenTelemetry is not installed. Install it beside gocdnext "
            "(pip install 'gocdnext[otlp]'), or remove the variable"
        )
        return _nothing
    _Tracer.open, end = switch_on(__version__, queue=QUEUE, batch=BATCH, export_millis=EXPORT_MILLIS)
    _log.info("traces are sent", collector=host)

    def stop() -> None:
        _Tracer.open = None
        last = threading.Thread(target=end, daemon=True)
        last.start()
        last.join(FAREWELL)

    return stop


def _nothing() -> None:
    """What ends tracing that never began."""
