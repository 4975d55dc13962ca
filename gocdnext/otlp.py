"""Spans by way of OpenTelemetry, over OTLP/HTTP. Imported by `tracing.start` only, and only where it is asked for.

The library's own thread sends; nothing here waits for a collector, and none that is away disturbs anybody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from uuid import UUID

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

PREFIX = "gocdnext."
"""Of our ids among the attributes of a span; names with a dot in them are OpenTelemetry's own."""
_NOISE = "opentelemetry"
"""The library's logger: it warns at every batch that does not arrive."""

Ids = Mapping[str, UUID | str | int]


def switch_on(
    version: str, *, queue: int, batch: int, export_millis: int
) -> tuple[Callable[[str, Ids, Mapping[str, str] | None], AbstractContextManager[Span]], Callable[[], None]]:
    """What opens a span, and what ends all of it. The endpoint and its headers come from the environment."""
    logging.getLogger(_NOISE).setLevel(logging.CRITICAL)
    resource = Resource.create({SERVICE_NAME: "gocdnext-server", SERVICE_VERSION: version})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(timeout=export_millis / 1000)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter, max_queue_size=queue, max_export_batch_size=batch, export_timeout_millis=export_millis
        )
    )
    tracer = provider.get_tracer("gocdnext", version)
    propagator = TraceContextTextMapPropagator()

    @contextmanager
    def opened(what: str, ids: Ids, headers: Mapping[str, str] | None) -> Iterator[Span]:
        parent = None
        if headers is not None and (said := headers.get("traceparent")):
            parent = propagator.extract({"traceparent": said})
        attributes = {name if "." in name else PREFIX + name: _plain(value) for name, value in ids.items()}
        # The text of an exception may hold what is nobody's business: its class says enough.
        with tracer.start_as_current_span(
            what, parent, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
                raise

    def end() -> None:
        provider.force_flush(export_millis)
        provider.shutdown()

    return opened, end


def _plain(value: UUID | str | int) -> str | int:
    return str(value) if isinstance(value, UUID) else value
