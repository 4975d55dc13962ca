"""Vault as a store of secrets: what is asked of it, what it may answer, and what no reference can make it tell."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from gocdnext.outbound.client import Outbound
from gocdnext.outbound.hosts import Hosts
from gocdnext.outbound.policy import Policy
from gocdnext.secrets.stores import vault
from gocdnext.secrets.stores.errors import ERROR, UNAUTHORIZED, UNREACHABLE, StoreError
from gocdnext.secrets.stores.vault import Vault, VaultSettings, problem
from tests.counterpart import Told, as_json, certificate, counterpart
from tests.vault_room import JWT, ROLE_ID, SECRET_ID, STATIC_TOKEN, VaultRoom

PLAIN = {"pem": "value-1", "port": 8, "list": ["a"], "none": None}
CREDENTIALS = {"secret_id": f" {SECRET_ID}\n", "token": STATIC_TOKEN}


def now() -> datetime:
    return datetime.now(UTC)


VaultAt = Callable[..., Vault]


@pytest.fixture
async def vault_at() -> AsyncIterator[VaultAt]:
    """Makes stores; what they call others with ends with the test."""
    async with contextlib.AsyncExitStack() as stack:

        def made(url: str, *, timeout: float = 10, allow: str = "127.0.0.1", **settings: Any) -> Vault:
            meant = VaultSettings(addr=url, **({"role_id": ROLE_ID, "kv_mount": "kv"} | settings))
            assert problem(meant, CREDENTIALS) is None
            outbound = Outbound(Policy(allow=Hosts.parse(allow)), now, attempts=1)
            stack.push_async_exit(outbound)
            return Vault(meant, CREDENTIALS, outbound, timeout=timeout, clock=now)

        yield made


async def refused(store: Vault, path: str = "ci/release", key: str = "pem") -> StoreError:
    with pytest.raises(StoreError) as told:
        await store.read(path, key)
    assert not any(secret in str(told.value) for secret in (SECRET_ID, STATIC_TOKEN, JWT, "hvs."))
    return told.value


async def test_both_versions_with_and_without_a_mount(vault_at: VaultAt) -> None:
    room = VaultRoom(newer={"ci/release": PLAIN}, older={"ci/release": PLAIN})
    async with counterpart(room) as there:
        for mount, path in (
            ("kv", "ci/release"),
            ("/old/", "ci/release"),
            ("", "kv/data/ci/release"),
            ("", "old/ci/release"),
        ):
            store = vault_at(there.url, kv_mount=mount)
            assert await store.read(path, "pem") == "value-1"
            assert [await store.read(path, key) for key in ("port", "list", "none")] == ["8", '["a"]', "null"]
            assert (await refused(store, path, "gone")).kind == ERROR
        assert there.requests[0].json == {"role_id": ROLE_ID, "secret_id": SECRET_ID}
        assert room.logins == 4  # once each


async def test_each_way_in(vault_at: VaultAt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(JWT + "\n")
    monkeypatch.setattr(vault, "_JWT_FOLDERS", (str(tmp_path),))
    room = VaultRoom(newer={"ci/release": PLAIN})
    async with counterpart(room) as there:
        for settings in (
            {"auth": "approle"},
            {"auth": "token"},
            {"auth": "kubernetes", "role": "ci", "jwt_path": str(tmp_path / "token")},
        ):
            store = vault_at(there.url, **settings)
            await store.check()
            assert await store.read("ci/release", "pem") == "value-1"
        room.namespace = "team"
        assert await vault_at(there.url, namespace="team").read("ci/release", "pem") == "value-1"
        assert (await refused(vault_at(there.url))).kind == ERROR
        room.namespace = ""
        wrong = vault_at(there.url, role_id="another")
        assert (await refused(wrong)).kind == UNAUTHORIZED
        with pytest.raises(StoreError, match="does not let this server in"):
            await wrong.check()
        room.good.clear()
        with pytest.raises(StoreError, match="the token"):
            await vault_at(there.url, auth="token").check()


async def test_a_token_that_ended_is_replaced_once(vault_at: VaultAt, autojump_clock: object) -> None:
    room = VaultRoom(newer={"ci/release": PLAIN}, lease=100)
    async with counterpart(room) as there:
        store = vault_at(there.url)
        await store.read("ci/release", "pem")
        room.good.clear()  # revoked there
        assert await store.read("ci/release", "pem") == "value-1"
        assert room.logins == 2
        room.forbidden = {"kv/data/ci/release", "kv/ci/release"}
        assert (await refused(store)).kind == UNAUTHORIZED
        room.forbidden = set()
        before = room.logins
        await trio.sleep(91)
        await store.read("ci/release", "pem")
        assert room.logins == before + 1


@pytest.mark.parametrize(
    "path",
    ["auth/token/lookup-self", "/auth/token/lookup-self", "sys/raw/x", "cubbyhole/x", "identity/oidc/token/x",
     "team/auth/token/lookup-self", "kv/../auth/token/lookup-self", "kv//x", "", "a\nb", "kv/./x"],
)  # fmt: skip
async def test_no_reference_reaches_beyond_the_secrets(vault_at: VaultAt, path: str) -> None:
    async with counterpart(VaultRoom()) as there:
        store = vault_at(there.url, kv_mount="", auth="token")
        error = await refused(store, path, "id")
        assert error.kind == ERROR
        assert not there.requests


async def test_a_path_is_a_path_and_nothing_else(vault_at: VaultAt) -> None:
    room = VaultRoom(newer={"a%3Fb%23c%252e": PLAIN, "auth/github": PLAIN})
    async with counterpart(room) as there:
        assert await vault_at(there.url).read("a?b#c%2e", "pem") == "value-1"
        assert await vault_at(there.url).read("auth/github", "pem") == "value-1"
        assert not there.requests[-1].query


async def test_the_credential_of_the_server_is_no_secret_of_a_job(vault_at: VaultAt) -> None:
    room = VaultRoom(newer={"ci/own": {"a": f"x{SECRET_ID}", "b": "hvs.session-1"}})
    async with counterpart(room) as there:
        store = vault_at(there.url)
        for key in ("a", "b"):
            assert "its own credential" in str(await refused(store, "ci/own", key))


@pytest.mark.parametrize(
    ("told", "kind", "text"),
    [
        (Told(200, b"<html>"), ERROR, "without JSON"),
        (Told(200, b'{"data": {"data": 7}}'), ERROR, "something else than a secret"),
        (Told(200, b"x" * (vault.MAX_ANSWER + 1)), ERROR, "more than"),
        (as_json({"data": {"data": {"pem": "x" * 70_000}, "metadata": {}}}), ERROR, "larger than 64 KiB"),
        (as_json({"data": {"data": {"pem": "a\0b"}, "metadata": {}}}), ERROR, "NUL"),
        (Told(307, b"", {"Location": "http://127.0.0.1:1/"}), ERROR, "answers 307"),
        (Told(503, b'{"errors":["Vault is sealed"]}'), UNREACHABLE, "not in service"),
        (Told(raw=b"HTTP/1.1 200 OK\r\n"), UNREACHABLE, "cannot be reached"),
    ],
)
async def test_answers_that_are_none(vault_at: VaultAt, told: Told, kind: str, text: str) -> None:
    async with counterpart(lambda _: told) as there:
        error = await refused(vault_at(there.url, auth="token"))
        assert (error.kind, text in str(error)) == (kind, True), str(error)


async def test_a_store_that_is_away_or_silent_or_not_to_be_called(vault_at: VaultAt, autojump_clock: object) -> None:
    async with counterpart(lambda _: Told(hang=True)) as there:
        error = await refused(vault_at(there.url, auth="token", timeout=3))
        assert (error.kind, "within 3 s" in str(error)) == (UNREACHABLE, True)
        url = there.url
    assert (await refused(vault_at(url, auth="token"))).kind == UNREACHABLE
    not_allowed = await refused(vault_at("http://127.0.0.1:1", auth="token", allow="vault.acme.example"))
    assert "GOCDNEXT_OUTBOUND_ALLOW" in str(not_allowed)


async def test_its_certificate_is_verified_unless_it_is_said_not_to(vault_at: VaultAt, tmp_path: Path) -> None:
    tls, trusted = certificate(tmp_path / "tls", "127.0.0.1")
    async with counterpart(VaultRoom(newer={"ci/release": PLAIN}), tls) as there:
        assert (await refused(vault_at(there.url))).kind == UNREACHABLE
        assert await vault_at(there.url, ca_cert=trusted.read_text()).read("ci/release", "pem") == "value-1"
        assert await vault_at(there.url, insecure_skip_verify=True).read("ci/release", "pem") == "value-1"


@pytest.mark.parametrize(
    ("settings", "credentials", "message"),
    [
        ({}, {}, "vault backend requires value.addr"),
        ({"addr": "ftp://x"}, {}, "value.addr is the address"),
        ({"addr": "http://x"}, {}, "vault approle auth requires value.role_id"),
        ({"addr": "http://x", "auth": "kubernetes"}, {}, "vault kubernetes auth requires value.role"),
        ({"addr": "http://x", "auth": "magic"}, {}, 'unknown vault auth "magic"'),
        ({"addr": "http://x", "role_id": "r"}, {"token": "t"}, "vault approle auth requires secret_id — re-enter"),
        ({"addr": "http://x", "auth": "token"}, {"secret_id": "t"}, "vault token auth requires token"),
        ({"addr": "http://x", "auth": "kubernetes", "role": "r", "jwt_path": "/etc/shadow"}, {}, "below /var/run"),
        (
            {"addr": "http://x", "auth": "kubernetes", "role": "r", "jwt_path": "/run/secrets/../../etc/shadow"},
            {},
            "below",
        ),
        ({"addr": "http://x", "auth": "token", "ca_cert": "nonsense"}, {"token": "t"}, "not a certificate"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], credentials: dict[str, str], message: str) -> None:
    assert message in (problem(VaultSettings(**settings), credentials) or "")
