"""A program that is run in a network namespace without a route: the whole product from a push to a successful run, offline.

It counts what the kernel had no route for. Every call to somebody else, a question to a name server included, would be
one of these; a call on purpose at the end shows that they are counted. Prints what it found as JSON.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import trio

from tests.e2e.product import TERMINAL, Product, api_of, make_repository, until

SECRET = "the secret of the hook"
ELSEWHERE = "https://github.com/acme/elsewhere"
JOBS = """
shows:
  stage: build
  script:
    - cat .gocdnext/ci.yaml
"""
POLLED = {
    "name": "polled",
    "materials": [{"git": {"url": ELSEWHERE, "branch": "main", "poll_interval": "1m"}}],
    "stages": ["s"],
    "jobs": {"j": {"stage": "s", "script": ["true"]}},
}


def loopback_up() -> None:
    """As `ip link set lo up` does it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        up = 1
        fcntl.ioctl(handle, 0x8914, struct.pack("16sh14x", b"lo", up))  # SIOCSIFFLAGS


def without_route() -> int:
    """Packets and connections that this namespace had no route for."""
    names, values = [
        line.split() for line in Path("/proc/self/net/snmp").read_text().splitlines() if line.startswith("Ip:")
    ]
    found = int(values[names.index("OutNoRoutes")])
    six = dict(line.split() for line in Path("/proc/self/net/snmp6").read_text().splitlines())
    return found + int(six["Ip6OutNoRoutes"])


async def push(api: Any, repository: Path) -> str:
    """Delivers a push as GitHub would; the run."""
    sha = (repository / ".git" / "refs" / "heads" / "main").read_text().strip()
    payload = {
        "ref": "refs/heads/main",
        "after": sha,
        "repository": {"full_name": "acme/shop", "clone_url": f"file://{repository}"},
        "head_commit": {"message": "change", "timestamp": "2026-04-28T13:00:00Z", "author": {"name": "A"}},
        "commits": [],
    }
    body = json.dumps(payload).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "1", "X-Hub-Signature-256": f"sha256={signature}"}
    answer = await api.request("POST", "/api/webhooks/github", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    run: str = answer.json()["runs"][0]
    return run


async def whole_run(product: Product, folder: Path) -> dict[str, Any]:
    repository = make_repository(folder / "repository", JOBS)
    product.start()
    product.agent("runner")
    async with api_of(product) as api:
        await api.online("runner")
        source = {"provider": "github", "auth_ref": "a-token", "default_branch": "main"}
        elsewhere = {"slug": "elsewhere", "files": [{"name": "p.yaml", "content": json.dumps(POLLED)}]}
        bound = await api.request(
            "POST", "/api/v1/projects/apply", json=elsewhere | {"scm_source": source | {"url": ELSEWHERE}}
        )
        assert bound.status_code == 200, bound.text
        files = [{"name": "ci.yaml", "content": (repository / ".gocdnext" / "ci.yaml").read_text()}]
        mine = source | {"url": f"file://{repository}", "webhook_secret": SECRET}
        made = await api.request(
            "POST", "/api/v1/projects/apply", json={"slug": "demo", "files": files, "scm_source": mine}
        )
        assert made.status_code == 200, made.text
        looked = await api.request("POST", f"/api/v1/pipelines/{bound.json()['pipelines'][0]['pipeline_id']}/trigger")
        run = await push(api, repository)

        async def ended() -> Any:
            found = await api.get(f"/api/v1/runs/{run}?logs=0")
            return found if found["status"] in TERMINAL else None

        status = (await until(ended, f"the run ends: {product.log()}"))["status"]
    return {"status": status, "hook": bound.json()["webhooks"][0]["error"], "look": looked.json()["error"]}


def main(folder: Path) -> None:
    loopback_up()
    product = Product(folder)
    product.environment |= {"GOCDNEXT_OFFLINE": "true", "GOCDNEXT_PUBLIC_BASE": "https://ci.acme.example"}
    before = without_route()
    try:
        found = trio.run(whole_run, product, folder)
        assert product.stop() == 0
    finally:
        product.end()
    calls = without_route() - before
    with contextlib.suppress(OSError), socket.create_connection(("192.0.2.1", 80), timeout=5):
        pass
    print(json.dumps(found | {"calls": calls, "counted": without_route() - before - calls}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
