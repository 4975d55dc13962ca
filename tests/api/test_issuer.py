"""The issuer over HTTP: what verifiers read, what administrators turn, and that a job's token opens nothing here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from gocdnext.secrets.signing import GRACE
from tests.api.crowd import ADMIN, bearer
from tests.api.test_conventions import error
from tests.api.world import World, pipeline, served
from tests.secrets_room import BASE, TTL
from tests.service.secrets.verifier import claims_of, verified

DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/.well-known/jwks.json"
KEYS = "/api/v1/admin/oidc/keys"
JOB = {"compile": {"stage": "build", "script": ["x"], "id_tokens": {"TOKEN": {"aud": "sts"}}}}


@pytest.fixture
async def issuing(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with served(database_url, tmp_path, auth=True, variables={"GOCDNEXT_PUBLIC_BASE": f"{BASE}/"}) as world:
        yield world


async def test_without_a_public_address_there_is_no_issuer(world: World) -> None:
    for path in (DISCOVERY, JWKS):
        assert error(await world.http.get(path), 404)
    assert (await world.http.get(KEYS)).json() == {"keys": []}


async def test_a_verifier_finds_everything_by_the_issuer_of_a_token(issuing: World, tmp_path: Path) -> None:
    told = await issuing.http.get(DISCOVERY)
    assert told.headers["cache-control"] == "public, max-age=300"
    document = told.json()
    assert (document["issuer"], document["jwks_uri"]) == (BASE, BASE + JWKS)
    assert document["id_token_signing_alg_values_supported"] == ["RS256"]
    (key,) = (await issuing.http.get(JWKS)).json()["keys"]
    assert {"kty": "RSA", "use": "sig", "alg": "RS256"}.items() <= key.items()
    assert key.keys() == {"kty", "use", "alg", "kid", "n", "e"}

    body = {"slug": "demo", "files": [{"name": "ci.yaml", "content": pipeline("ci", jobs=JOB)}]}
    made = (await issuing.http.post("/api/v1/projects/apply", json=body, headers=ADMIN)).json()
    started = f"/api/v1/pipelines/{made['pipelines'][0]['pipeline_id']}/trigger"
    run_id = (await issuing.http.post(started, headers=ADMIN)).json()["run_id"]
    agent = await issuing.agent_online()
    await issuing.runs.dispatch(UUID(run_id))
    (sent,) = agent.jobs.values()
    token = sent.env["TOKEN"]
    assert verified(token, key, tmp_path)
    assert claims_of(token).keys() <= set(document["claims_supported"])
    # It says who a job is, to others. Here it is nobody's.
    assert error(await issuing.http.get("/api/v1/me", headers=bearer(token)), 401) == "not authenticated"
    rows = await issuing.db.fetch("SELECT j::text AS row FROM job_runs j UNION ALL SELECT r::text FROM runs r")
    assert not any(token.split(".")[2] in row["row"] for row in rows)


async def test_keys_are_rotated_retired_and_withdrawn(issuing: World) -> None:
    first = (await issuing.http.get(JWKS)).json()["keys"][0]["kid"]
    done = (await issuing.http.post(f"{KEYS}/rotate", headers=ADMIN)).json()
    assert (done["mode"], done.keys()) == ("graceful", {"kid", "mode", "note"})
    published = [key["kid"] for key in (await issuing.http.get(JWKS)).json()["keys"]]
    assert published == [done["kid"], first]
    urgent = await issuing.http.post(f"{KEYS}/rotate", json={"mode": "emergency"}, headers=ADMIN)
    newest = urgent.json()["kid"]
    assert [key["kid"] for key in (await issuing.http.get(JWKS)).json()["keys"]] == [newest, first]
    issuing.now += TTL + GRACE
    await issuing.http.post(f"{KEYS}/rotate", json=None, content=b"null", headers=ADMIN)
    assert first not in [key["kid"] for key in (await issuing.http.get(JWKS)).json()["keys"]]
    listed = (await issuing.http.get(KEYS, headers=ADMIN)).json()["keys"]
    (last,) = (key for key in listed if key["kid"] == newest)
    assert ("retired_at" in last, "revoked_at" in last) == (True, False)
    assert sum("revoked_at" in key for key in listed) == 1
    assert len((await issuing.http.get(f"{KEYS}?limit=2", headers=ADMIN)).json()["keys"]) == 2
    trail = (await issuing.http.get("/api/v1/admin/audit?action=oidc_key.rotate", headers=ADMIN)).json()["events"]
    assert {event["metadata"]["mode"] for event in trail} == {"graceful", "emergency"}
    assert newest in {event["target_id"] for event in trail}
    issuing.now += timedelta(seconds=1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"mode": "quick"}', 'mode must be "graceful" or "emergency"'),
        (b"{", "invalid JSON body: "),
        (b'{"mode": 7}', "invalid JSON body: "),
        (b" " * 5000, "invalid JSON body: larger than 4096 bytes"),
    ],
)
async def test_rotations_that_cannot_be_meant(issuing: World, body: bytes, message: str) -> None:
    told = await issuing.http.post(f"{KEYS}/rotate", content=body, headers=ADMIN)
    assert error(told, 400).startswith(message)
    assert await issuing.db.fetchval("SELECT count(*) FROM oidc_keys") == 0
