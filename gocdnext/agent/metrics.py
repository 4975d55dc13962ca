"""The agent's HTTP endpoint: /healthz and /metrics (protocol-agent 3.1). It only reads numbers; off unless configured.

No framework: two fixed answers do not need the memory of one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import h11
import trio
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gocdnext.agent.activity import Activity

REQUEST = 10.0
"""Seconds for one connection: one request and its answer."""
CONNECTIONS = 16
"""At the same time; others wait."""
CHUNK = 4096


async def serve(
    address: tuple[str, int], activity: Activity, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serves until cancelled; started with the port. Raises OSError when it cannot listen."""
    registry = CollectorRegistry()
    registry.register(_Numbers(activity))
    PlatformCollector(registry)
    ProcessCollector(registry=registry)
    listeners = await trio.open_tcp_listeners(address[1], host=address[0])
    slots = trio.CapacityLimiter(CONNECTIONS)

    async def handle(stream: trio.SocketStream) -> None:
        async with slots:
            with trio.move_on_after(REQUEST):
                with contextlib.suppress(trio.BrokenResourceError, h11.ProtocolError):  # gone, or it speaks no HTTP
                    await _answer(stream, activity, registry)
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        task_status.started(listeners[0].socket.getsockname()[1])


async def _answer(stream: trio.SocketStream, activity: Activity, registry: CollectorRegistry) -> None:
    """One request, one answer, and the end of the connection."""
    connection = h11.Connection(h11.SERVER)
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await stream.receive_some(CHUNK))
    if not isinstance(event, h11.Request):
        return
    status, kind, body = _page(event, activity, registry)
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Connection", "close")]
    await stream.send_all(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
    if event.method != b"HEAD":
        await stream.send_all(connection.send(h11.Data(data=body)) or b"")
    await stream.send_eof()


def _page(request: h11.Request, activity: Activity, registry: CollectorRegistry) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    path = request.target.partition(b"?")[0]
    if request.method not in {b"GET", b"HEAD"}:
        return 405, "text/plain", b"only GET\n"
    if path == b"/metrics":
        return 200, CONTENT_TYPE_LATEST, generate_latest(registry)
    if path != b"/healthz":
        return 404, "text/plain", b"there are /healthz and /metrics\n"
    if activity.connected:
        return 200, "text/plain", b"ok\n"
    return 503, "text/plain", b"no session with the server\n"


class _Numbers(Collector):
    """Reads the numbers when somebody asks."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity

    def collect(self) -> Iterator[Metric]:
        seen = self._activity
        yield GaugeMetricFamily("gocdnext_agent_connected", "1 while a session with the server stands.", seen.connected)
        yield GaugeMetricFamily("gocdnext_agent_jobs_running", "Jobs that run or wait for a slot.", seen.running)
        yield CounterMetricFamily("gocdnext_agent_jobs_taken", "Jobs taken from the server.", seen.taken)
        ended = CounterMetricFamily("gocdnext_agent_jobs_ended", "Jobs that have ended.", labels=["result"])
        for result, count in (("success", seen.succeeded), ("failed", seen.failed), ("stopped", seen.stopped)):
            ended.add_metric([result], count)
        yield ended
        yield CounterMetricFamily("gocdnext_agent_log_lines", "Lines of the logs of all jobs.", seen.log_lines)
        # None is ever dropped: a job that prints too fast is slowed down. The name is one that others watch.
        yield CounterMetricFamily("gocdnext_agent_log_lines_dropped", "Lines that were dropped: none.", 0)
        yield CounterMetricFamily(
            "gocdnext_agent_reconnects", "Sessions after the first one.", max(0, seen.sessions - 1)
        )
