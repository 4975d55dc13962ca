"""Stores of secrets over HTTP: set, tried, forgotten; their credentials are in no answer (contract-admin 5.8)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_conventions import error
from tests.api.world import World, served
from tests.counterpart import Counterpart, counterpart
from tests.vault_room import STATIC_TOKEN, VaultRoom

PATH = "/api/v1/admin/secret-backends"
SECRETS = "/api/v1/projects/billing/secrets"


@pytest.fixture
async def there() -> AsyncIterator[Counterpart]:
    async with counterpart(VaultRoom()) as made:
        yield made


@pytest.fixture
async def calling(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    variables = {"GOCDNEXT_OUTBOUND_ALLOW": "127.0.0.1", "GOCDNEXT_SECRET_FILES_DIR": str(tmp_path)}
    async with served(database_url, tmp_path, variables=variables) as world:
        yield world


def wish(there: Counterpart, **more: Any) -> dict[str, Any]:
    value = {"addr": there.url, "auth": "token", "kv_mount": "kv"}
    return {"enabled": True, "value": value, "credentials": {"token": STATIC_TOKEN}} | more


async def test_a_store_is_set_shown_tried_and_forgotten(calling: World, there: Counterpart) -> None:
    listed = (await calling.http.get(PATH)).json()["backends"]
    assert [(one["source"], one["enabled"]) for one in listed] == [
        ("vault", False), ("gcp", False), ("aws", False), ("file", True),
    ]  # fmt: skip
    assert all(one["source_origin"] == "env" and one["credential_keys"] == [] for one in listed)
    tried = await calling.http.post(f"{PATH}/vault/test", json=wish(there))
    assert tried.json() == {"status": "ok"}
    refused = (await calling.http.post(f"{PATH}/vault/test", json=wish(there, credentials={"token": "hvs.bad"}))).json()
    assert refused["status"] == "unauthorized"
    told = await calling.http.put(f"{PATH}/vault", json=wish(there))
    assert told.status_code == 200
    one = told.json()
    assert (one["source_origin"], one["credential_keys"]) == ("db", ["configured"])
    assert one["value"] == {"addr": there.url, "auth": "token", "kv_mount": "kv"}
    await calling.apply()
    secret = {"name": "KEY", "source": "vault", "ref": {"path": "ci/release", "key": "pem"}}
    assert (await calling.http.post(SECRETS, json=secret)).status_code == 201
    page = (await calling.http.get(SECRETS)).json()
    assert page["configured_sources"] == ["db", "vault", "file"]
    assert page["secrets"][0]["ref"] == {"path": "ci/release", "key": "pem"}
    gone = await calling.http.delete(f"{PATH}/vault")
    assert (gone.status_code, gone.json()["source_origin"]) == (200, "env")
    trail = (await calling.http.get("/api/v1/admin/audit", params={"limit": 50})).text
    assert "platform_setting.set" in trail
    spoken = [tried.text, told.text, gone.text, trail, str(refused), (await calling.http.get(PATH)).text]
    assert not any(STATIC_TOKEN in text or "hvs." in text for text in spoken)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("nope", {}, "unknown backend source (want vault | gcp | aws)"),
        ("gcp", {"enabled": True}, "this version has no gcp backend"),
        ("file", {"enabled": True}, "GOCDNEXT_SECRET_FILES_DIR"),
        ("vault", {"enabled": True}, "vault backend requires value.addr"),
        ("vault", {"enabled": True, "value": {"addr": 7}}, "invalid value"),
        ("vault", {"credentials": {"token": 7}}, "invalid json"),
    ],
)
async def test_what_cannot_be_meant(calling: World, path: str, body: dict[str, Any], message: str) -> None:
    assert message in error(await calling.http.put(f"{PATH}/{path}", json=body), 400)


async def test_too_much_is_refused(calling: World) -> None:
    assert error(await calling.http.put(f"{PATH}/vault", content=b"x" * 70_000), 413)
