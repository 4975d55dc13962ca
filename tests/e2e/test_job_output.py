"""What a job prints, as it is seen in log.txt: 100 MB, a line of 50 MB, bytes that are no text, nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.product import TERMINAL, Product, api_of, make_repository, resident, until

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
GROWTH = 100 * MIB
LINE = "0123456789" * 50
LINES = 200_000
LONG_LINE = 50_000_000
PIECE = 64 * 1024
"""Characters after which the agent begins a new line."""


async def output(product: Product, folder: Path, script: str) -> tuple[str, int]:
    """What a job with this script printed, and by how many bytes the server or the agent grew at most."""
    file = folder / "script.sh"
    file.write_text(script)
    repository = make_repository(
        folder / "repository", f"one: {{stage: build, script: ['echo ---; sh {file}; echo ---']}}"
    )
    product.start()
    pids = (product.agent("runner").pid, product.pid)
    async with api_of(product) as api:
        await api.online("runner")
        before = [resident(pid) for pid in pids]
        peak = list(before)
        run = await api.start(repository)

        async def look() -> bool:
            peak[:] = [max(most, resident(pid)) for most, pid in zip(peak, pids, strict=True)]
            return (await api.run(run))["status"] in TERMINAL

        await until(look, "the job ends", within=240)
        assert (await api.run(run))["status"] == "success"
        (job,) = await api.jobs(run)
        text = await api.log(run, job["id"])
        peak[:] = [max(most, resident(pid)) for most, pid in zip(peak, pids, strict=True)]
    assert product.stop() == 0
    _, printed, _ = text.split("\n---\n")
    return printed, max(most - first for most, first in zip(peak, before, strict=True))


async def test_nothing(product: Product, quick_dir: Path) -> None:
    file = quick_dir / "repository"
    repository = make_repository(file, "one: {stage: build, script: ['true']}")
    product.start("--local-agent")
    async with api_of(product) as api:
        run = await api.start(repository)
        assert await api.ended(run) == "success"
        (job,) = await api.jobs(run)
        text = await api.log(run, job["id"])
        assert "true" in text, "the script that ran is shown"
        assert (await api.get(f"/api/v1/runs/{run}"))["stages"][0]["jobs"][0]["logs_total"] >= 1
    assert product.stop() == 0


async def test_bytes_that_are_no_text(product: Product, quick_dir: Path) -> None:
    printed, _ = await output(
        product, quick_dir, r"""printf 'caf\351 \0 \303\251 \377\376\r\n\033[31mred\nno newline'; echo"""
    )
    assert printed.split("\n") == ["caf\ufffd  é \ufffd\ufffd", "\x1b[31mred", "no newline"]


async def test_100_mb(product: Product, quick_dir: Path) -> None:
    printed, growth = await output(product, quick_dir, f"yes {LINE} | head -n {LINES}")
    assert len(printed) > 100_000_000
    assert printed.split("\n") == [LINE] * LINES
    assert growth < GROWTH, f"memory grew by {growth / MIB:.0f} MiB"


async def test_a_line_of_50_mb(product: Product, quick_dir: Path) -> None:
    printed, growth = await output(product, quick_dir, f"yes {LINE} | tr -d '\\n' | head -c {LONG_LINE}; echo")
    lines = printed.split("\n")
    assert "".join(lines) == (LINE * (LONG_LINE // len(LINE) + 1))[:LONG_LINE]
    assert max(map(len, lines)) <= PIECE
    assert growth < GROWTH, f"memory grew by {growth / MIB:.0f} MiB"
