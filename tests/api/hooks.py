"""Deliveries as the providers send them: their published examples, signed with a secret of the test."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import httpx

from tests.api.world import World, pipeline

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "webhooks"
EXAMPLES: dict[str, dict[str, Any]] = {
    name: json.loads((VECTORS / f"{name}.json").read_text())["examples"] for name in ("github", "gitlab", "bitbucket")
}
SECRET = "s3cr3t of the hook"
GITHUB_REPO = "https://github.com/Codertocat/Hello-World"
REPOSITORIES = {
    "github": GITHUB_REPO,
    "gitlab": "http://example.com/mike/diaspora",
    "bitbucket": "https://api.bitbucket.org/bitbucket/bitbucket",
}


def example(provider: str, name: str) -> dict[str, Any]:
    """A copy of an example."""
    found: dict[str, Any] = copy.deepcopy(EXAMPLES[provider][name])
    return found


def headers(provider: str, event: str, body: bytes, secret: str = SECRET, delivery: str = "d-1") -> dict[str, str]:
    """The headers that the provider sends with a body."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "github": {"X-GitHub-Event": event, "X-GitHub-Delivery": delivery, "X-Hub-Signature-256": f"sha256={digest}"},
        "gitlab": {"X-Gitlab-Event": event, "X-Gitlab-Event-UUID": delivery, "X-Gitlab-Token": secret},
        "bitbucket": {"X-Event-Key": event, "X-Request-UUID": delivery, "X-Hub-Signature": f"sha256={digest}"},
    }[provider] | {"Content-Type": "application/json"}


async def send(
    world: World, provider: str, event: str, payload: object, *, secret: str = SECRET, delivery: str = "d-1"
) -> httpx.Response:
    """Delivers a payload."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signed = headers(provider, event, body, secret, delivery)
    return await world.http.post(f"/api/webhooks/{provider}", content=body, headers=signed)


def push(branch: str = "master", sha: str = "6113728f27ae82c7b1a177c8d03f9e96e0adf246", **more: Any) -> dict[str, Any]:
    """GitHub's example of a push, of another branch and commit."""
    made = example("github", "push")
    made |= {"ref": f"refs/heads/{branch}", "after": sha, **more}
    return made


def waits(name: str = "ci", url: str = GITHUB_REPO, **git: Any) -> str:
    """A pipeline that waits for a repository."""
    return pipeline(name, materials=[{"git": {"url": url, "branch": "master", **git}}])


async def bind(
    world: World, *pipelines: str, provider: str = "github", slug: str = "shop", url: str = "", secret: str = SECRET
) -> dict[str, Any]:
    """A project that is bound to the provider's example repository."""
    source = {"provider": provider, "url": url or REPOSITORIES[provider], "default_branch": "master"}
    source |= {"webhook_secret": secret} if secret else {}
    files = {f"p{n}.yaml": text for n, text in enumerate(pipelines)}
    return await world.apply(slug, files or {"p.yaml": waits(url=url or REPOSITORIES[provider])}, scm_source=source)


async def newest(world: World) -> dict[str, Any]:
    """The newest delivery with everything that is known of it."""
    page = (await world.http.get("/api/v1/admin/webhooks?limit=1")).json()
    found: dict[str, Any] = (await world.http.get(f"/api/v1/admin/webhooks/{page['deliveries'][0]['id']}")).json()
    return found


async def runs(world: World) -> list[Any]:
    """All runs, oldest first."""
    return await world.db.fetch("SELECT * FROM runs ORDER BY created_at, counter")
