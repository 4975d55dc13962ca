"""Secrets of every kind and an identity token go through everything, and are then looked for in every byte that was
written or shown."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
import trio
import trio_asyncio

from gocdnext.db.reach import running
from tests.agent.git_server import PASSWORD, USER, http_git_server
from tests.e2e.product import Api, Product, api_of, descendants, make_repository, until
from tests.service.secrets.verifier import claims_of, verified

VALUE, EVERYWHERE, FILED = "sw0rdfish/+ mouse", "gl0bal-h0rse-staple", "f1led-batt3ry-away"
SIGNING = "webhook-s1gning-secret"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
BASE = "https://ci.acme.example"
JOBS = """
shows:
  stage: build
  secrets: [TOKEN, EVERYWHERE, FILED]
  id_tokens: {{WHO: {{aud: sts.acme.example}}}}
  script:
    - echo "plain $TOKEN and $EVERYWHERE and $FILED and $WHO"
    - printf %s "$TOKEN" | base64
    - printf %s "$WHO" > {told}/token
    - for i in $(seq 600); do [ -e {told}/go ] && break; sleep 0.1; done
    - echo "$WHO" >&2
    - ps -eo args
    - git fetch --quiet origin main && cat .git/config
    - echo done
"""


def forms(secret: str) -> list[str]:
    return [
        secret,
        base64.b64encode(secret.encode()).decode().rstrip("="),
        quote(secret, safe=""),
        secret.encode().hex(),
    ]


@pytest.mark.slow
async def test_secrets_are_in_nothing_that_the_product_writes(
    product: Product, quick_dir: Path, tmp_path: Path
) -> None:
    with http_git_server(quick_dir / "git") as host:
        await through_everything(product, quick_dir, tmp_path, host)


async def through_everything(product: Product, quick_dir: Path, tmp_path: Path, host: str) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "filed").write_text(FILED)
    repository = make_repository(quick_dir / "git" / "repository", JOBS.format(told=tmp_path))
    file = repository / ".gocdnext" / "ci.yaml"
    file.write_text(file.read_text().replace(f"file://{repository}", f"http://{host}/repository"))
    product.environment |= {
        "GOCDNEXT_OUTBOUND_ALLOW": "127.0.0.1",
        "GOCDNEXT_PUBLIC_BASE": BASE,
        "GOCDNEXT_SECRET_FILES_DIR": str(files),
    }
    product.start()
    agent = product.agent("runner")
    async with api_of(product) as api:
        await api.online("runner")
        pipeline = await configured(api, repository, host)
        run = await api.trigger(pipeline)
        token = str(await until(lambda: (tmp_path / "token").exists() and (tmp_path / "token").read_text(), "a token"))
        assert claims_of(token)["sub"] == "project:demo:pipeline:ci:ref_type:branch:ref:main"
        (key,) = (await api.get("/.well-known/jwks.json"))["keys"]
        assert verified(token, key, tmp_path)
        secrets = [form for secret in (VALUE, EVERYWHERE, FILED, SIGNING) for form in forms(secret)] + [PASSWORD, BASIC]
        # The last part is what makes a token one; the others say nothing that is secret.
        secrets += [token, token.rpartition(".")[2], *forms(token)[1:]]

        def clean(*texts: str) -> None:
            assert not [secret for secret in secrets if any(secret in text for text in texts)]

        clean(*shown_by_the_system(product, agent.pid))
        rotated = await rotate(product)
        assert (rotated["made"], rotated["unreadable"]) == (True, [])
        assert rotated["resealed"] == 5  # two secrets, the webhook's, the signing key, the credential
        (tmp_path / "go").touch()
        assert await api.ended(run) == "success"
        again = await api.trigger(pipeline)  # with the new key, which the running server was told of
        assert await api.ended(again) == "success"
        for each in (run, again):
            (job,) = await api.jobs(each)
            log = await api.log(each, job["id"])
            assert "plain *** and *** and *** and ***" in log
            assert "done" in log
            clean(log)
        for path in paths(run):
            clean((await api.request("GET", path)).text)
        clean(*await dumped(product.state))
    assert product.stop() == 0
    found = [file for file in written(quick_dir) if any(secret.encode() in file.read_bytes() for secret in secrets)]
    assert not found


async def configured(api: Api, repository: Path, host: str) -> str:
    """Everything that is secret is set, and a delivery is signed with one of it; the pipeline's id."""
    content = (repository / ".gocdnext" / "ci.yaml").read_text()
    url = f"http://{host}/repository"
    source = {"provider": "github", "url": url, "webhook_secret": SIGNING}
    body = {"slug": "demo", "files": [{"name": "ci.yaml", "content": content}], "scm_source": source}
    applied = await api.request("POST", "/api/v1/projects/apply", json=body)
    spoken = [applied.text]
    for path, secret in (
        ("/api/v1/projects/demo/secrets", {"name": "TOKEN", "value": VALUE}),
        ("/api/v1/admin/secrets", {"name": "EVERYWHERE", "value": EVERYWHERE}),
        ("/api/v1/admin/secrets", {"name": "FILED", "source": "file", "ref": {"path": "filed"}}),
        (
            "/api/v1/admin/scm-credentials",
            {"provider": "github", "host": host, "api_base": f"http://{host}", "auth_ref": PASSWORD},
        ),
    ):
        answer = await api.request("POST", path, json=secret)
        assert answer.status_code == 201, answer.text
        spoken.append(answer.text)
    push = json.dumps({"zen": "x", "repository": {"clone_url": url, "full_name": "acme/demo"}})
    signature = hmac.new(SIGNING.encode(), push.encode(), hashlib.sha256).hexdigest()
    headers = {"X-GitHub-Event": "ping", "X-GitHub-Delivery": "d1", "X-Hub-Signature-256": f"sha256={signature}"}
    spoken.append((await api.request("POST", "/api/webhooks/github", content=push, headers=headers)).text)
    assert not any(secret in text for secret in (VALUE, EVERYWHERE, FILED, SIGNING, PASSWORD) for text in spoken)
    pipeline: str = applied.json()["pipelines"][0]["pipeline_id"]
    return pipeline


async def rotate(product: Product) -> dict[str, Any]:
    """`gocdnext admin rotate-key` beside the running server."""
    command = [sys.executable, str(product.program), "admin", "rotate-key", "--state", str(product.state), "--json"]
    done = await trio.run_process(
        command,
        env=product.environment,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def shown_by_the_system(product: Product, agent: int) -> list[str]:
    """Command lines of every process of the machine, and the environments of those that need no secret of a job."""
    everybody = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    without = (*descendants(product.pid), agent)
    return [of_process(pid, "cmdline") for pid in everybody] + [of_process(pid, "environ") for pid in without]


def of_process(pid: int, what: str) -> str:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace")
    except OSError:  # it has ended
        return ""


async def dumped(state: Path) -> list[str]:
    """Every row of every table, as text: what is packed on the disk is read here too."""

    async def work() -> list[str]:
        conn = await asyncpg.connect(**running(state))
        try:
            names = await conn.fetch("SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables")
            rows = [row for name in names for row in await conn.fetch(f"SELECT t::text AS row FROM {name['name']} t")]
        finally:
            await conn.close()
        return [row["row"] or "" for row in rows]

    async with trio_asyncio.open_loop():
        return list(await trio_asyncio.aio_as_trio(work)())


def paths(run: str) -> list[str]:
    return [
        f"/api/v1/runs/{run}?logs=100",
        "/api/v1/runs",
        "/api/v1/projects",
        "/api/v1/projects/demo",
        "/api/v1/projects/demo/secrets",
        "/api/v1/admin/secrets",
        "/api/v1/admin/secret-backends",
        "/api/v1/admin/scm-credentials",
        "/api/v1/admin/oidc/keys",
        "/api/v1/admin/audit",
        "/api/v1/admin/webhooks",
        "/api/v1/agents",
        f"/api/v1/runs/{run}/logs/stream",
        "/metrics",
    ]


def written(folder: Path) -> list[Path]:
    """Every file: the database with its log and write-ahead log, the program's own logs, what the agent left."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
