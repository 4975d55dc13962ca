"""Runs that nobody asks for: a schedule and a polled repository, on the whole product, over a stop of the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.product import Api, Product, api_of, make_repository, until

JOBS = """
shows:
  stage: build
  script:
    - cat file
"""


def pipeline(name: str, material: dict[str, Any]) -> dict[str, str]:
    body = {
        "name": name,
        "materials": [material],
        "stages": ["build"],
        "jobs": {"shows": {"stage": "build", "script": ["true"]}},
    }
    return {"name": f"{name}.yaml", "content": json.dumps(body)}


async def ended_by(api: Api, cause: str, count: int) -> list[dict[str, Any]]:
    """Waits until so many runs of a cause have succeeded, and returns the runs of it, newest first."""

    async def look() -> Any:
        runs = (await api.get(f"/api/v1/runs?cause={cause}"))["runs"]
        return runs if [run["status"] for run in runs].count("success") >= count else None

    found: list[dict[str, Any]] = await until(look, f"{count} runs by {cause}: {api.product.log()}")
    return found


@pytest.mark.slow
async def test_schedules_and_polls_start_runs(product: Product, quick_dir: Path) -> None:
    repository = make_repository(quick_dir / "repository", JOBS)
    files = [
        pipeline("tick", {"cron": {"expression": "@every 2s"}}),
        pipeline("look", {"git": {"url": f"file://{repository}", "poll_interval": "1m"}}),
    ]
    product.start()
    product.agent("runner")
    async with api_of(product) as api:
        await api.online("runner")
        answer = await api.request("POST", "/api/v1/projects/apply", json={"slug": "demo", "files": files})
        assert answer.status_code == 200, answer.text
        assert "warnings" not in answer.json()
        before = len(await ended_by(api, "cron", 1))
        await ended_by(api, "poll", 1)
        assert product.stop() == 0
        product.start()
        await ended_by(api, "cron", before + 1)
        assert len(await ended_by(api, "poll", 1)) == 1, "the head is the one that was found before"
    assert product.stop() == 0
