"""The server stops by itself, whoever is connected (design 3; anchors 0.1), and starts again on the same state."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import pytest
import trio

from tests.e2e.crowd import STOPS_WITHIN, stop_among_a_crowd
from tests.e2e.product import Product, api_of, make_repository, processes_of, until

pytestmark = pytest.mark.slow


async def test_it_stops_among_a_crowd(product: Product, quick_dir: Path) -> None:
    took = await stop_among_a_crowd(product, quick_dir / "repository")
    print(f"SIGTERM to exit: {took:.2f} s")
    assert not list(product.state.glob("pg/*/postmaster.pid")), "PostgreSQL was not stopped cleanly"
    assert not processes_of(product.state)
    # The same directory again: the agents come back by themselves and the run goes on.
    product.start()
    async with api_of(product) as api:
        await api.online("busy", "idle")
        (run,) = (await api.get("/api/v1/runs"))["runs"]
        assert run["status"] in ("queued", "running")
        await api.running(run["id"])
        assert (await api.request("POST", f"/api/v1/runs/{run['id']}/cancel")).status_code == 204
        assert await api.ended(run["id"]) == "canceled"
    assert product.stop() == 0


async def test_an_agent_that_is_frozen_does_not_keep_it(product: Product, quick_dir: Path) -> None:
    """Neither half-closing nor reading: the case in which a graceful gRPC stop waits for ever."""
    repository = make_repository(quick_dir / "repository", "one: {stage: build, script: ['yes']}")
    product.start()
    agent = product.agent("frozen")
    async with api_of(product) as api:
        await api.online("frozen")
        await api.running(await api.start(repository))
        agent.send_signal(signal.SIGSTOP)
        assert await trio.to_thread.run_sync(product.stop) == 0


@pytest.mark.parametrize("moment", ["leftover", "postgres_ready", "serving"])
async def test_a_signal_while_it_starts_ends_it(product: Product, moment: str) -> None:
    """At any moment: before the database, while the schema is made, just when it serves."""
    log = product.folder / "server.log"

    async def interrupt() -> None:
        if moment != "leftover":
            await until(lambda: log.exists() and moment in log.read_text(), moment)
        else:
            await until(lambda: (product.state / "lock").exists(), moment)
        assert product.process is not None
        product.process.send_signal(signal.SIGTERM)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt)
        with contextlib.suppress(AssertionError):  # it may or may not come to be ready
            await trio.to_thread.run_sync(product.start)
    assert product.process is not None
    assert product.process.wait(STOPS_WITHIN) == 0, product.log()
    await until(lambda: not processes_of(product.state), "nothing is left")
    product.start()
    assert product.stop() == 0
