"""Signing in with a real OpenID provider: the npm package `oidc-provider`, in a process of its own on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import trio

from tests.api.identity_provider import ON, PUBLIC, Browser
from tests.api.world import World, served
from tests.bench.stack import free_port

FOLDER = Path(__file__).resolve().parents[1] / "openid"
SECRET = "a-secret-of-the-client"
CALLBACK = f"{PUBLIC}/auth/callback/oidc"

if shutil.which("node") is None or not (FOLDER / "node_modules").is_dir():
    why = f"needs node, and `npm ci --ignore-scripts` in {FOLDER.name}"
    if os.environ.get("CI") == "true":
        pytest.fail(why, pytrace=False)
    pytest.skip(why, allow_module_level=True)


@contextlib.asynccontextmanager
async def provider(port: int) -> AsyncIterator[None]:
    """The provider, with signing keys that no other process of it has."""
    command = ["node", str(FOLDER / "provider.mjs"), str(port), "gocd", SECRET, CALLBACK]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        with trio.fail_after(60):
            said = b""
            while b"listening" not in said:
                piece = await process.stdout.receive_some()
                assert piece, "the provider did not start"
                said += piece
        yield
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            if process.stdout is not None:
                await process.stdout.aclose()


async def consent(location: str, login: str) -> str:
    """A person at the provider: signs in, agrees; returns where the browser is sent back to."""
    async with httpx.AsyncClient(timeout=60) as person:
        answer = await person.get(location)
        for _ in range(10):
            target = str(answer.headers.get("location", ""))
            if target.startswith(PUBLIC):
                return target
            if target:
                answer = await person.get(answer.url.join(target))
                continue
            prompt = "login" if 'value="login"' in answer.text else "consent"
            form = {"prompt": prompt, "login": login, "password": "anything"}
            answer = await person.post(answer.url, data=form)
    raise AssertionError(f"the provider did not send the browser back: {answer.status_code}")


async def sign_in(world: World, login: str) -> tuple[Browser, httpx.Response, str]:
    browser = Browser(world)
    back = await consent(await browser.begin(next="/projects"), login)
    return browser, await follow(browser, back), back


async def follow(browser: Browser, back: str) -> httpx.Response:
    parts = urlsplit(back)
    return await browser.get(parts.path, **{name: value for name, [value] in parse_qs(parts.query).items()})


async def test_the_whole_way_and_a_change_of_keys(database_url: str, tmp_path: Path) -> None:
    port = free_port()
    variables = ON | {
        "GOCDNEXT_AUTH_OIDC_CLIENT_ID": "gocd",
        "GOCDNEXT_AUTH_OIDC_CLIENT_SECRET": SECRET,
        "GOCDNEXT_AUTH_OIDC_ISSUER": f"http://127.0.0.1:{port}",
        "GOCDNEXT_AUTH_ALLOWED_DOMAINS": "acme.example",
    }
    async with contextlib.AsyncExitStack() as running:
        await running.enter_async_context(provider(port))
        async with served(database_url, tmp_path / "state", auth=True, variables=variables) as world:
            world.now = datetime.now(UTC)  # the provider goes by the wall clock
            browser, answer, back = await sign_in(world, "rita")
            assert (answer.status_code, answer.headers["location"]) == (302, "/projects")
            user = await browser.me()
            assert user is not None
            assert (user["external_id"], user["email"], user["name"]) == ("rita", "rita@acme.example", "The rita")
            # The provider names itself in its answers, and its code is good once.
            assert parse_qs(urlsplit(back).query)["iss"] == [f"http://127.0.0.1:{port}"]
            assert (await follow(browser, back)).status_code == 401
            # A code without the browser's part of the proof, and one for another sign-in of the same browser.
            thief = Browser(world)
            stolen = await consent(await Browser(world).begin(), "omar")
            assert (await follow(thief, stolen)).status_code == 401
            state = parse_qs(urlsplit(await thief.begin()).query)["state"][0]
            code = parse_qs(urlsplit(await consent(await Browser(world).begin(), "omar")).query)["code"][0]
            swapped = await thief.get("/auth/callback/oidc", code=code, state=state, iss=f"http://127.0.0.1:{port}")
            assert swapped.status_code == 502
            assert await thief.me() is None
            # The provider begins anew, with other keys.
            await running.aclose()
            await running.enter_async_context(provider(port))
            browser, answer, _ = await sign_in(world, "rita")
            assert answer.status_code == 302
            assert (await browser.me() or {})["id"] == user["id"]
