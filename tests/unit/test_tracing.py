"""Lines of the log carry ids; spans reach a real OTLP/HTTP receiver, and nothing of OpenTelemetry is there unless asked for."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

import pytest
import structlog

from gocdnext import tracing

RUN = UUID("0b8f1f0e-4a55-4b30-9f0e-2f5f3a6f7d11")
INSTALLED = importlib.util.find_spec("opentelemetry") is not None
needs_otlp = pytest.mark.skipif(not INSTALLED, reason="the extra otlp is not installed")


def test_ids_are_bound_for_the_block_and_no_longer() -> None:
    with tracing.doing("outer", run_id=RUN):
        with tracing.doing("inner", run_id="other", job_id="j"):
            assert structlog.contextvars.get_contextvars() == {"run_id": "other", "job_id": "j"}
        assert structlog.contextvars.get_contextvars() == {"run_id": RUN}
    assert structlog.contextvars.get_contextvars() == {}


def child(program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The log goes to stdout, as the server's does."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    program = "import os, sys\nfrom gocdnext import journal, tracing\njournal.configure('info')\n" + program
    return subprocess.run(
        [sys.executable, "-c", program], env=clean | environ, capture_output=True, text=True, timeout=60, check=True
    )


def test_a_line_of_the_log_says_which_run_and_job() -> None:
    program = (
        "import structlog; from uuid import UUID\n"
        f"with tracing.doing('job.complete', run_id=UUID({str(RUN)!r}), job_id='j'): structlog.get_logger().info('x')"
    )
    assert f'"run_id":"{RUN}"' in (said := child(program).stdout)
    assert '"job_id":"j"' in said


def test_nothing_is_imported_when_nobody_asks() -> None:
    program = "tracing.start(os.environ)(); print([n for n in sys.modules if 'telemetry' in n or n == 'gocdnext.otlp'])"
    assert child(program).stdout == "[]\n"


def test_a_sentence_when_the_packages_are_missing() -> None:
    program = "sys.modules['opentelemetry'] = None\ntracing.start(os.environ)()\nprint(tracing.on())"
    said = child(program, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9").stdout
    assert "pip install 'gocdnext[otlp]'" in said
    assert said.endswith("False\n")


def test_offline_only_a_collector_of_this_machine() -> None:
    said = child(
        "tracing.start(os.environ, offline=True)()", OTEL_EXPORTER_OTLP_ENDPOINT="http://collector.example:4318"
    ).stdout
    assert "must be on this machine" in said


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An OTLP/HTTP receiver on loopback: its address, and the bodies that it was sent."""
    bodies: list[bytes] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    server.server_close()
    thread.join()


PROGRAM = f"""
import structlog
from uuid import UUID
tracing.FAREWELL = 30.0
end = tracing.start(os.environ)
headers = {{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
with tracing.doing("GET /api/v1/runs", headers, route="x"):
    try:
        with tracing.doing("run.create", pipeline_id=UUID({str(RUN)!r})) as here:
            here.learned(run_id="r-17")
            structlog.get_logger().info("inside")
            raise ValueError("hunter2")
    except ValueError:
        pass
end()
"""


@needs_otlp
def test_spans_arrive_with_ids_and_parents_and_without_texts_of_errors(collector: tuple[str, list[bytes]]) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    url, bodies = collector
    done = child(PROGRAM, OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert '"trace_id":"0af7651916cd43dd8448eb211c80319c"' in done.stdout  # the line inside knows its trace
    spans = [
        span
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    by_name = {span.name: span for span in spans}
    request, create = by_name["GET /api/v1/runs"], by_name["run.create"]
    assert request.trace_id.hex() == create.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert request.parent_span_id.hex() == "b7ad6b7169203331"
    assert create.parent_span_id == request.span_id
    said = {each.key: each.value.string_value for each in create.attributes}
    assert said["gocdnext.pipeline_id"] == str(RUN)
    assert said["gocdnext.run_id"] == "r-17"
    assert said["error.type"] == "ValueError"
    assert not any(b"hunter2" in body for body in bodies)


@needs_otlp
def test_a_collector_that_is_away_holds_nobody_up() -> None:
    program = "end = tracing.start(os.environ)\nwith tracing.doing('x'): pass\nend(); print('ended')"
    done = child(program, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert done.stdout.endswith("ended\n")
    assert "Traceback" not in done.stderr
