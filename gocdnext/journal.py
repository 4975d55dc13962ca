"""The program's own log: one JSON line per event on standard output. Never a secret, never a job's output."""

from __future__ import annotations

import logging
import sys
from typing import BinaryIO

import orjson
import structlog

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def configure(level: str, stream: BinaryIO | None = None) -> None:
    """Sets up structlog, and the standard `logging` of libraries through it. An unknown level means info; without a stream
    it is standard output."""
    threshold = _LEVELS.get(level, logging.INFO)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=_dumps)],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.BytesLoggerFactory(stream or sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    handler = _ThroughStructlog(level=max(threshold, logging.WARNING))
    logging.basicConfig(handlers=[handler], level=handler.level, force=True)


def _dumps(value: object, **_: object) -> bytes:
    return orjson.dumps(value, default=str)


class _ThroughStructlog(logging.Handler):
    """Libraries' warnings and errors come out as our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)
