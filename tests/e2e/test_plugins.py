"""Plugins in the whole product: the catalogue of a running server, a step without an image, a catalogue that is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.git_server import git
from tests.e2e.product import Product, api_of, make_repository

JOBS = """\
version: {stage: build, uses: gocdnext/semver-bump@v1, with: {pre-release: rc}, outputs: {tag: TAG}}
use: {stage: build, needs: [version], script: ['echo "the tag is $TAG"'], variables: {TAG: "${{ needs.version.outputs.tag }}"}}
foreign: {stage: build, uses: acme/semver-bump@v1}
"""


@pytest.mark.slow
async def test_a_plugin_computes_what_another_job_uses(product: Product, quick_dir: Path) -> None:
    (quick_dir / "more" / "deployer").mkdir(parents=True)
    (quick_dir / "more" / "deployer" / "plugin.yaml").write_text("name: deployer\ndescription: Ours.")
    product.environment["GOCDNEXT_PLUGIN_CATALOG_DIR"] = str(quick_dir / "more")
    repository = make_repository(quick_dir / "repository", JOBS)
    git(repository, "tag", "v1.2.3")
    product.start("--local-agent")
    listed = [line.split("\t")[0] for line in product.call("plugins").stdout.splitlines()]
    assert {"deployer", "semver-bump", "tag"} <= set(listed)
    assert listed == sorted(listed)
    assert json.loads(product.call("plugins", "deployer", "--json").stdout) == {
        "name": "deployer",
        "description": "Ours.",
        "inputs": [],
    }
    async with api_of(product) as api:
        run = await api.start(repository)
        assert await api.ended(run) == "failed"
        jobs = {job["name"]: job for job in await api.jobs(run)}
        assert (jobs["version"]["status"], jobs["use"]["status"]) == ("success", "success"), jobs
        assert "the tag is v1.2.3" in await api.log(run, jobs["use"]["id"])
        told = await api.log(run, jobs["version"]["id"])
        assert "$ plugin gocdnext/semver-bump:v1" in told
        assert "semver-bump: v1.2.3 -> v1.2.3 (none)" in told
        assert "run this job on an agent with a container engine" in jobs["foreign"]["error"]
    assert product.stop() == 0


def test_a_broken_catalogue_keeps_the_server_from_starting(product: Product, quick_dir: Path) -> None:
    (quick_dir / "more" / "deployer").mkdir(parents=True)
    (quick_dir / "more" / "deployer" / "plugin.yaml").write_text("name: deployr")
    product.environment["GOCDNEXT_PLUGIN_CATALOG_DIR"] = str(quick_dir / "more")
    done = subprocess.run(
        [sys.executable, product.program, "serve", "--state", product.state],
        env=product.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "the server cannot go on" in done.stdout + done.stderr
    assert "deployer/plugin.yaml: the name `deployr` is not that of its folder" in done.stdout + done.stderr
