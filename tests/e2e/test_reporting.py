"""From a push to the status at the provider, on the whole product."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from tests.counterpart import counterpart
from tests.e2e.product import Product, api_of, until
from tests.forge import SHA, TOKEN, Forge

SECRET = "the secret of the hook"


@pytest.mark.slow
async def test_a_push_is_told_as_it_goes(product: Product) -> None:
    """The server's own loop tells, after a restart too; the run is cancelled, because there is no agent."""
    forge = Forge()
    async with counterpart(forge) as there:
        product.environment |= {
            "GOCDNEXT_OUTBOUND_ALLOW": "127.0.0.1",
            "GOCDNEXT_PUBLIC_BASE": "https://ci.acme.example",
        }
        product.start()
        url = f"{there.url}/acme/shop"
        body = {
            "name": "ci",
            "materials": [{"git": {"url": url, "branch": "main"}}],
            "stages": ["s"],
            "jobs": {"j": {"stage": "s", "script": ["true"]}},
        }
        source = {
            "provider": "github",
            "url": url,
            "default_branch": "main",
            "auth_ref": TOKEN,
            "webhook_secret": SECRET,
        }
        async with api_of(product) as api:
            request = {
                "slug": "shop",
                "files": [{"name": "ci.yaml", "content": json.dumps(body)}],
                "scm_source": source,
            }
            made = await api.request("POST", "/api/v1/projects/apply", json=request)
            assert made.json()["webhooks"][0]["status"] == "registered"
            payload = {
                "ref": "refs/heads/main",
                "after": SHA,
                "repository": {"full_name": "acme/shop", "clone_url": url},
                "head_commit": {"message": "change"},
            }
            sent = json.dumps(payload).encode()
            signature = hmac.new(forge.hooks[0]["config"]["secret"].encode(), sent, hashlib.sha256).hexdigest()
            headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "1", "X-Hub-Signature-256": f"sha256={signature}"}
            answer = await api.request("POST", "/api/webhooks/github", content=sent, headers=headers)
            (run,) = answer.json()["runs"]

            def states() -> list[Any]:
                return [status["state"] for status in forge.statuses]

            await until(lambda: states() == ["pending"], f"it is told: {product.log()}")
            assert product.stop() == 0
            product.start()
            assert (await api.request("POST", f"/api/v1/runs/{run}/cancel")).status_code == 204
            await until(lambda: states() == ["pending", "error"], f"its end is told: {product.log()}")
            assert forge.statuses[-1]["target_url"] == f"https://ci.acme.example/runs/{run}"
