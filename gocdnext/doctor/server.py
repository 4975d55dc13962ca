"""What a running server says about itself, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

from gocdnext import __version__
from gocdnext.client import ApiError, CannotReachError, Client
from gocdnext.doctor.findings import Finding, fail, ok, skipped, warn

ANSWER_WITHIN = 10.0
"""Seconds for each call."""
LAG = 10.0
"""Seconds that a pass of the scheduler may be late."""


def server(url: str, token: str | None) -> Iterator[Finding]:
    """Whether it is there, ready, of this version, lets us in, and has agents."""
    try:
        with Client(url, token, timeout=ANSWER_WITHIN) as client:
            version = str(client.version().get("version", "unknown"))
            yield ok("server", f"answers at {url}")
            yield _same_version(version)
            yield _ready(client)
            yield from _within(client)
    except CannotReachError as error:
        yield fail("server", str(error), "Start it with `gocdnext serve`, or say where it is with --server.")
    except ApiError as error:
        yield fail("server", str(error), "Is this a gocdnext server? Say where it is with --server.")


def _same_version(version: str) -> Finding:
    said = f"server {version}, this program {__version__}"
    if version == __version__:
        return ok("version", said)
    return warn(
        "version", said, "Use the same file on both sides; the older one may not know what the newer one asks for."
    )


def _ready(client: Client) -> Finding:
    try:
        client.ready()
    except ApiError as error:
        return fail("server ready", str(error), "Look at the log of the server: journalctl -u gocdnext")
    return ok("server ready", "its database answers")


def _within(client: Client) -> Iterator[Finding]:
    """What only those see who are let in."""
    try:
        agents = client.agents()["agents"]
    except ApiError as error:
        yield fail("token", str(error), "Sign in with: gocdnext login")
        return
    yield ok("token", "this server lets us in")
    online = [agent["name"] for agent in agents if agent.get("health_state") in ("online", "idle")]
    advice = "No job will run. Start one with `gocdnext agent`, or the server with --local-agent."
    yield ok("agents", ", ".join(online)) if online else warn("agents", "none is online", advice)
    try:
        lag = client.call("GET", "/api/v1/admin/health").get("scheduler_tick_lag_seconds")
    except ApiError:
        yield skipped("scheduler", "only an admin's token may ask")
        return
    if lag is not None and lag > LAG:
        advice = "The server is overloaded or its database is slow: see the findings about the database and its log."
        yield warn("scheduler", f"its last pass is {lag:.0f} s late", advice)
    else:
        yield ok("scheduler", "passes in time")
