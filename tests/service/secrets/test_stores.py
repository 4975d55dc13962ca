"""Secrets of other stores on their way to jobs: fetched beside the scheduler, kept for a while, or said why not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio
import trio.lowlevel
import trio_asyncio

from gocdnext import config
from gocdnext.config import ConfigError
from gocdnext.db.pool import Database, open_pool
from gocdnext.errors import InvalidError
from gocdnext.outbound.client import Outbound
from gocdnext.outbound.hosts import Hosts
from gocdnext.outbound.policy import Policy
from gocdnext.runs.creation import NewRun
from gocdnext.secrets.store import NewSecret
from gocdnext.secrets.stores.configured import Stores, Wish
from gocdnext.secrets.stores.errors import StoreError
from gocdnext.secrets.stores.fetching import Fetching
from tests.counterpart import Asked, Counterpart, Told, counterpart
from tests.scenarios.world import SLUG, World
from tests.secrets_room import KEYRING
from tests.vault_room import ROLE_ID, SECRET_ID, STATIC_TOKEN, VaultRoom

VALUE = "hunter2-from-elsewhere"
ASKS = {"stage": "s", "script": ["x"], "secrets": ["TOKEN"]}
PIPELINES: Mapping[str, Any] = {
    "p": {"stages": ["s"], "jobs": {"x": ASKS}},
    "both": {"stages": ["s"], "jobs": {"x": ASKS | {"secrets": ["TOKEN", "FILED"]}}},
    "other": {"stages": ["s"], "jobs": {"x": {"stage": "s", "script": ["x"]}}},
}
IN_VAULT = NewSecret("TOKEN", source="vault", ref_path="ci/release", ref_key="pem")


class Elsewhere:
    """A world whose secrets may come from a Vault on loopback and from files."""

    def __init__(self, world: World, there: Counterpart, stores: Stores, fetching: Fetching) -> None:
        self.world, self.there, self.stores, self.fetching = world, there, stores, fetching

    async def settled(self) -> None:
        """Until no fetch is under way and every run was looked at."""
        while True:
            await self.world.settle()
            if not self.fetching._waiting and not self.world.woken:
                return
            with trio.fail_after(30):
                while self.fetching._waiting:
                    await trio.lowlevel.checkpoint()

    async def trigger(self, pipeline: str = "p") -> None:
        await self.world.do_trigger({"pipeline": pipeline})
        await self.settled()

    async def error(self, job: str = "p#1/x") -> str:
        found = (await self.world.job(job))[1]
        assert found.status == "failed"
        return found.error or ""


def stores_of(db: Database, outbound: Outbound, settings: config.Settings, world: World) -> Stores:
    return Stores(db, KEYRING, outbound, settings, clock=lambda: world.now, new_id=uuid4)


@asynccontextmanager
async def elsewhere(
    database_url: str, tmp_path: Path, handler: Any, ttl: float = 60, **variables: str
) -> AsyncIterator[Elsewhere]:
    async with (
        trio_asyncio.open_loop(),
        open_pool({"dsn": database_url}, size=3) as db,
        counterpart(handler) as there,
        Outbound(Policy(allow=Hosts.parse("127.0.0.1")), lambda: world.now, attempts=1) as outbound,
        trio.open_nursery() as nursery,
    ):
        world = World(db)
        await world.set_up({"pipelines": PIPELINES})
        environ = {
            "GOCDNEXT_SECRET_VAULT_ENABLED": "true",
            "GOCDNEXT_SECRET_VAULT_ADDR": there.url,
            "GOCDNEXT_SECRET_VAULT_KV_MOUNT": "kv",
            "GOCDNEXT_SECRET_VAULT_ROLE_ID": ROLE_ID,
            "GOCDNEXT_SECRET_VAULT_SECRET_ID": SECRET_ID,
            "GOCDNEXT_SECRET_FILES_DIR": str(tmp_path),
        }
        stores = stores_of(db, outbound, config.load(environ | variables, state_dir=tmp_path), world)
        fetching = Fetching(stores, world.wake, ttl=ttl)
        await nursery.start(fetching.run)
        world.secrets._fetching = fetching
        yield Elsewhere(world, there, stores, fetching)
        nursery.cancel_scope.cancel()


def room(value: str = VALUE) -> VaultRoom:
    return VaultRoom(newer={"ci/release": {"pem": value}})


async def test_a_job_gets_what_another_store_has(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("from-a-file\n")
    async with elsewhere(database_url, tmp_path, room()) as here:
        world = here.world
        await world.secrets.set(SLUG, IN_VAULT)
        await world.secrets.set(None, NewSecret("FILED", source="file", ref_path="FILE"))
        await here.trigger("both")
        (sent,) = world.fleet.sent
        assert (sent.env["TOKEN"], sent.env["FILED"]) == (VALUE, "from-a-file")
        assert {VALUE, "from-a-file"} <= set(sent.masks)
        assert await world.secrets.sources() == ["db", "vault", "file"]
        before = len(here.there.requests)
        await here.trigger()
        await here.trigger()
        assert len(world.fleet.sent) == 3
        assert len(here.there.requests) == before  # kept
        rows = await world.db.fetch("SELECT t::text AS row FROM secrets t UNION ALL SELECT t::text FROM job_runs t")
        assert not any(VALUE in row["row"] for row in rows)


async def test_without_a_cache_each_dispatch_asks_and_runs_at_once_ask_together(
    database_url: str, tmp_path: Path
) -> None:
    asked: list[str] = []
    release = trio.Event()
    vault = room()

    async def slowly(request: Asked) -> Told:
        if "data" in request.path:
            asked.append(request.path)
            await release.wait()
        return vault(request)

    async with elsewhere(database_url, tmp_path, slowly, ttl=0) as here:
        world = here.world
        await world.secrets.set(SLUG, IN_VAULT)
        for _ in range(3):
            await world.do_trigger({"pipeline": "p"})
        await world.settle()
        # The store is slow: everybody else goes on.
        await world.do_trigger({"pipeline": "other"})
        await world.settle()
        assert [sent.definition.secrets for sent in world.fleet.sent] == [()]
        release.set()
        await here.settled()
        assert len(world.fleet.sent) == 4
        assert len(asked) == 1
        await here.trigger()
        assert (len(world.fleet.sent), len(asked)) == (5, 2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sealed": True}, "vault is not in service (it answers 503): sealed, or a standby; run the job again when"),
        ({"forbidden": {"kv/data/ci/release", "kv/ci/release"}}, "vault does not allow this server to read ci/release"),
        ({"newer": {}}, "vault has no ci/release"),
        ({"newer": {"ci/release": {"crt": "x"}}}, "no field pem"),
    ],
)
async def test_a_job_is_told_why_there_is_no_value(
    database_url: str, tmp_path: Path, change: dict[str, Any], text: str
) -> None:
    vault = room()
    async with elsewhere(database_url, tmp_path, vault) as here:
        await here.world.secrets.set(SLUG, IN_VAULT)
        for name, value in change.items():
            setattr(vault, name, value)
        await here.trigger()
        error = await here.error()
        assert error.startswith("secrets: TOKEN: ")
        assert text in error
        assert SECRET_ID not in error
        # Failures are not kept: it works as soon as the store does.
        vault.sealed, vault.forbidden, vault.newer = False, set(), {"ci/release": {"pem": VALUE}}
        await here.world.do_rerun_job({"job": "p#1/x"})
        await here.settled()
        assert here.world.fleet.sent[0].env["TOKEN"] == VALUE


async def test_a_fork_asks_no_store(database_url: str, tmp_path: Path) -> None:
    async with elsewhere(database_url, tmp_path, room()) as here:
        await here.world.secrets.set(SLUG, IN_VAULT)
        pipeline_id, _ = await here.world.pipeline("p")
        await here.world.runs.create(NewRun(pipeline_id, "pull_request", "x", {}, {"from_fork": True}))
        await here.settled()
        assert "a fork" in await here.error()
        assert not here.there.requests


async def test_what_an_administrator_sets_replaces_the_environment(database_url: str, tmp_path: Path) -> None:
    vault = room()
    async with elsewhere(database_url, tmp_path, vault) as here:
        world, stores = here.world, here.stores
        await world.secrets.set(SLUG, IN_VAULT)
        await here.trigger()
        vault.newer = {"ci/release": {"pem": "another"}}
        value = {"addr": here.there.url, "auth": "token", "kv_mount": "kv", "unknown": 1}
        wish = Wish(True, value, {"token": STATIC_TOKEN, "secret_id": "not needed"})
        shown = await stores.set("vault", wish)
        assert (shown.origin, shown.has_credentials, shown.enabled) == ("db", True, True)
        assert not any(secret in repr((shown, wish)) for secret in (STATIC_TOKEN, SECRET_ID))
        row = await world.db.fetchval("SELECT b::text FROM secret_backends b")
        assert STATIC_TOKEN not in row
        # Another configuration, another value: nothing stale is served.
        await here.trigger()
        assert [sent.env["TOKEN"] for sent in world.fleet.sent] == [VALUE, "another"]
        kept = await stores.set("vault", Wish(True, value, {}, preserve_credentials=True))
        assert kept.has_credentials
        await stores.test("vault", Wish(True, value, {}, preserve_credentials=True))
        with pytest.raises(InvalidError, match="re-enter it to save"):
            await stores.set("vault", Wish(True, value, {}))
        with pytest.raises(InvalidError, match="re-enter it to save"):
            # Another way in: the credential that is kept is not for it.
            await stores.set(
                "vault", Wish(True, value | {"auth": "approle", "role_id": "r"}, {}, preserve_credentials=True)
            )
        assert not (await stores.set("vault", Wish(False, {}, {}))).enabled
        await here.trigger()
        assert "secret source vault is not enabled" in await here.error("p#3/x")
        with pytest.raises(InvalidError, match="not configured on this server"):
            await world.secrets.set(SLUG, IN_VAULT)
        assert (await stores.delete("vault")).origin == "env"
        await world.do_rerun_job({"job": "p#3/x"})
        await here.settled()
        assert len(world.fleet.sent) == 3


async def test_a_row_that_cannot_be_opened_is_a_store_that_is_not_there(database_url: str, tmp_path: Path) -> None:
    async with elsewhere(database_url, tmp_path, room()) as here:
        value = {"addr": here.there.url, "auth": "token"}
        await here.stores.set("vault", Wish(True, value, {"token": STATIC_TOKEN}))
        await here.world.db.execute("UPDATE secret_backends SET key_id = 'gone'")
        here.stores.forget()
        assert await here.world.secrets.sources() == ["db", "file"]
        assert (await here.stores.shown())[0].enabled


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (NewSecret("A", source="vault", ref_key="k"), "vault secret needs a ref path"),
        (NewSecret("A", source="vault", ref_path="p"), "vault secret needs a ref key"),
        (NewSecret("A", "v", source="vault", ref_path="p", ref_key="k"), "external secret takes no value"),
        (NewSecret("A", source="gcp", ref_path="p"), 'secret source "gcp" is not configured on this server'),
        (NewSecret("A", source="magic"), 'unknown secret source "magic"'),
        (NewSecret("A", source="file", ref_path="p" * 1001), "at most 1000"),
    ],
)
async def test_references_that_cannot_be_kept(database_url: str, tmp_path: Path, new: NewSecret, message: str) -> None:
    async with elsewhere(database_url, tmp_path, room()) as here:
        with pytest.raises(InvalidError, match=message):
            await here.world.secrets.set(SLUG, new)


async def test_trying_a_store_keeps_nothing_and_says_what_is_wrong(database_url: str, tmp_path: Path) -> None:
    async with elsewhere(database_url, tmp_path, room()) as here:
        value = {"addr": here.there.url, "auth": "token"}
        await here.stores.test("vault", Wish(True, value, {"token": STATIC_TOKEN}))
        await here.stores.test("file", Wish(True, {}, {}))
        for wish, kind in (
            (Wish(True, value, {"token": "hvs.wrong"}), "unauthorized"),
            (Wish(True, value | {"addr": "http://127.0.0.1:1"}, {"token": "t"}), "unreachable"),
            (Wish(True, value | {"addr": ""}, {"token": "t"}), "error"),
            (Wish(True, value | {"addr": "http://10.0.0.1"}, {"token": "t"}), "error"),
        ):
            with pytest.raises(StoreError) as told:
                await here.stores.test("vault", wish)
            assert told.value.kind == kind, str(told.value)
            assert "hvs." not in str(told.value)
        assert await here.world.db.fetchval("SELECT count(*) FROM secret_backends") == 0
        for source, text in (("nope", "unknown backend source"), ("aws", "no aws backend"), ("file", "FILES_DIR")):
            with pytest.raises(InvalidError, match=text):
                await here.stores.set(source, Wish(True, {}, {}))


def test_an_environment_that_cannot_be_meant_ends_the_start(tmp_path: Path) -> None:
    from gocdnext.secrets.stores.configured import _of_environment

    for environ, text in (
        ({"GOCDNEXT_SECRET_VAULT_ENABLED": "true"}, "requires value.addr"),
        ({"GOCDNEXT_SECRET_VAULT_CACERT": "/nowhere.pem"}, "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=text):
            _of_environment(config.load(environ, state_dir=tmp_path))
    settings = config.load({"GOCDNEXT_SECRET_VAULT_TOKEN": STATIC_TOKEN}, state_dir=tmp_path)
    assert STATIC_TOKEN not in repr(settings)
