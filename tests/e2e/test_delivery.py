"""Artifacts and caches between real jobs: the real agent, the real server, its real store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.product import Product, api_of, make_repository

JOBS = """\
compile:
  stage: build
  script:
    - test -e node_modules/lib || echo "no cache"
    - mkdir -p dist/sub node_modules; echo app > dist/app; head -c 3000000 /dev/urandom > dist/sub/large
    - sha256sum < dist/sub/large > dist/sum; echo lib > node_modules/lib
  artifacts: {paths: [dist/], optional: ["*.none"]}
  cache: [{key: 'deps-{{ hash ".gocdnext/ci.yaml" }}', paths: [node_modules]}]
use:
  stage: build
  needs: [compile]
  needs_artifacts: [{from_job: compile, dest: deps}]
  script: ["cat deps/dist/app; sha256sum < deps/dist/sub/large | cmp - deps/dist/sum; echo same"]
missing:
  stage: build
  script: [":"]
  artifacts: {paths: [gone]}
"""


@pytest.mark.slow
async def test_artifacts_and_caches_of_real_jobs(product: Product, quick_dir: Path) -> None:
    repository = make_repository(quick_dir / "repository", JOBS)
    product.start()
    product.agent("a", capacity=2)
    async with api_of(product) as api:
        pipeline = await api.apply(repository)
        logs: dict[str, str] = {}
        for number in range(2):
            run = await api.trigger(pipeline)
            assert await api.ended(run) == "failed"
            jobs = {job["name"]: job for job in await api.jobs(run)}
            assert {name: job["status"] for name, job in jobs.items()} == {
                "compile": "success",
                "use": "success",
                "missing": "failed",
            }
            assert jobs["missing"]["error"].startswith("artifact upload failed: gone: there is no such file")
            logs |= {f"{name} {number}": await api.log(run, job["id"]) for name, job in jobs.items()}
    assert "\nno cache" in logs["compile 0"]
    assert "1 entry, " in logs["compile 0"].partition("── cache store (1 entry) …")[2]
    assert "\nno cache" not in logs["compile 1"]
    assert "restored" in logs["compile 1"]
    assert "$ download artifact dist/ (from compile)" in logs["use 0"]
    assert all(text in logs["use 1"] for text in ("app", "same"))
    listed = json.loads(product.call("artifacts", "list", run, "--json").stdout)
    assert [(entry["path"], entry["status"]) for entry in listed] == [("dist/", "ready")]
    everything = "".join(logs.values()) + product.log() + (quick_dir / "a.log").read_text()
    assert "/artifacts/" not in everything, "a link opens an artifact: it is in no log"
