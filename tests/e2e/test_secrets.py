"""A secret and the credential of a repository go through everything, and are then looked for in every byte that was written."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.agent.git_server import PASSWORD, USER, http_git_server
from tests.e2e.product import Product, api_of, make_repository

VALUE = "sw0rdfish/+ mouse"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
FORMS = [
    *(VALUE, base64.b64encode(VALUE.encode()).decode().rstrip("="), quote(VALUE, safe=""), VALUE.encode().hex()),
    *(PASSWORD, BASIC),
]
JOBS = """
shows:
  stage: build
  secrets: [TOKEN]
  script:
    - echo "plain $TOKEN"
    - printf %s "$TOKEN" | base64
    - ps -eo args
    - git fetch --quiet origin main && cat .git/config
    - echo done
"""


@pytest.mark.slow
async def test_a_secret_is_in_nothing_that_the_product_writes(product: Product, quick_dir: Path) -> None:
    with http_git_server(quick_dir / "git") as host:
        await through_everything(product, quick_dir, host)


async def through_everything(product: Product, quick_dir: Path, host: str) -> None:
    repository = make_repository(quick_dir / "git" / "repository", JOBS)
    file = repository / ".gocdnext" / "ci.yaml"
    file.write_text(file.read_text().replace(f"file://{repository}", f"http://{host}/repository"))
    product.start()
    product.agent("runner")
    async with api_of(product) as api:
        await api.online("runner")
        pipeline = await api.apply(repository)
        credential = {"provider": "github", "host": host, "api_base": f"http://{host}", "auth_ref": PASSWORD}
        kept = await api.request("POST", "/api/v1/admin/scm-credentials", json=credential)
        assert kept.status_code == 201, kept.text
        answer = await api.request("POST", "/api/v1/projects/demo/secrets", json={"name": "TOKEN", "value": VALUE})
        assert answer.status_code == 201, answer.text
        assert VALUE not in answer.text
        run = await api.trigger(pipeline)
        assert await api.ended(run) == "success", "".join(
            [await api.log(run, one["id"]) for one in await api.jobs(run)]
        )[-900:]
        (job,) = await api.jobs(run)
        log = await api.log(run, job["id"])
        assert "plain ***" in log
        assert "done" in log
        spoken = [log, *[(await api.request("GET", path)).text for path in paths(run)]]
    assert product.stop() == 0
    for text in spoken:
        assert not any(form in text for form in FORMS)
    found = [file for file in written(quick_dir) if any(form.encode() in file.read_bytes() for form in FORMS)]
    assert not found


def paths(run: str) -> list[str]:
    return [
        f"/api/v1/runs/{run}?logs=100",
        "/api/v1/runs",
        "/api/v1/projects",
        "/api/v1/projects/demo",
        "/api/v1/projects/demo/secrets",
        "/api/v1/admin/scm-credentials",
        "/api/v1/admin/audit",
        "/metrics",
    ]


def written(folder: Path) -> list[Path]:
    """Every file: the database with its log and write-ahead log, the program's own logs, what the agent left."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
