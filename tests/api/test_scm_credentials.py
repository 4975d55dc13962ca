"""Credentials for hosts of repositories: kept sealed, and used wherever a repository is reached (contract-admin 7.9)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from gocdnext.materials import polling
from gocdnext.runs.assignment import Assignment
from gocdnext.secrets import scm_credentials
from gocdnext.secrets.sealing import Keyring
from tests.agent import git_server
from tests.agent.git_server import PASSWORD
from tests.api.test_conventions import error
from tests.api.test_runs import get
from tests.api.world import World, pipeline, served
from tests.secrets_room import KEY, KEYRING

PATH = "/api/v1/admin/scm-credentials"
GITLAB = {
    "provider": "gitlab",
    "host": "git.acme.example",
    "api_base": "https://git.acme.example/api/v4",
    "display_name": "CI bot",
    "auth_ref": "glpat-0123456789-9f2c",
}


async def post(world: World, **body: object) -> httpx.Response:
    return await world.http.post(PATH, json=body)


async def test_credentials_are_kept_sealed_and_shown_in_part(world: World) -> None:
    answer = await post(world, **{**GITLAB, "host": " Git.Acme.Example "})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made == {
        **{key: value for key, value in GITLAB.items() if key != "auth_ref"},
        "id": made["id"],
        "created_at": "2026-04-28T13:00:00Z",
        "updated_at": "2026-04-28T13:00:00Z",
    }
    assert (await get(world, PATH)) == {"credentials": [{**made, "auth_ref_preview": "glpa…9f2c"}]}
    row = await world.db.fetchrow("SELECT * FROM scm_credentials")
    assert GITLAB["auth_ref"].encode() not in row["auth_ref"]  # type: ignore[index]
    assert (await post(world, provider="bitbucket", host="git.acme.example", auth_ref="12345678")).status_code == 201
    world.now += timedelta(hours=1)
    again = (await post(world, provider="gitlab", host="git.acme.example", auth_ref="glpat-other")).json()
    assert (again["id"], again["created_at"], again["updated_at"]) == (
        made["id"],
        made["created_at"],
        "2026-04-28T14:00:00Z",
    )
    found = (await get(world, PATH))["credentials"]
    assert [(one["provider"], one["auth_ref_preview"]) for one in found] == [
        ("bitbucket", "••••••••"),
        ("gitlab", "glpa…ther"),
    ]
    assert [one["id"] for one in (await get(world, PATH, limit=1, offset=1))["credentials"]] == [made["id"]]
    for _ in range(2):
        assert (await world.http.delete(f"{PATH}/{made['id']}")).status_code == 204
    assert len((await get(world, PATH))["credentials"]) == 1
    events = (await get(world, "/api/v1/admin/audit", target_type="scm_credential"))["events"]
    assert [event["action"] for event in events].count("scm_credential.delete") == 1
    assert "glpat" not in str(events)


async def test_what_is_refused_of_credentials(world: World) -> None:
    host = "host must be the name of a host, such as git.acme.example, without a scheme and a path"
    line = "auth_ref must be one line of at most 8192 ASCII characters"
    base = "api_base must be an http or https address without a user name and a query"
    refused: list[tuple[dict[str, object], str]] = [
        ({"provider": "svn"}, "provider must be gitlab or bitbucket, or github"),
        ({"provider": None}, "provider must be gitlab or bitbucket, or github"),
        ({"host": " "}, "host is required"),
        *(
            ({"host": bad}, host)
            for bad in ("https://git.example", "git.example/x", "a@b", "-a", "a b", "a\r\nb", "é.example", "a:b", "..")
        ),
        ({"auth_ref": ""}, "auth_ref is required"),
        ({"auth_ref": "a\nb"}, line),
        ({"auth_ref": "a\0b"}, line),
        ({"auth_ref": "x" * 8193}, line),
        (
            {"auth_ref": "-----BEGIN PRIVATE KEY-----\nx"},
            "auth_ref must be a token; the key of a GitHub App belongs to the integrations",
        ),
        *(({"api_base": bad}, base) for bad in ("ftp://x", "https://", "https://u:p@x", "https://x?y=1", "http://[")),
        ({"display_name": "a\r\nb"}, "display_name must be one line of at most 200 characters"),
    ]
    for change, message in refused:
        answer = await post(world, **{**GITLAB, **change})
        assert error(answer, 400) == message, change
    assert error(await world.http.post(PATH, content=b"x" * 32_769), 400) == "read body: larger than 32768 bytes"
    assert error(await world.http.delete(f"{PATH}/x"), 400) == "invalid credential id"
    assert (await get(world, PATH))["credentials"] == []


@pytest.fixture
def private(tmp_path: Path) -> Iterator[str]:
    """The address of a repository that wants a password."""
    git_server.make_repository(tmp_path / "git" / "cart")
    folder = tmp_path / "git" / "cart" / ".gocdnext"
    folder.mkdir()
    (folder / "ci.yaml").write_text(pipeline("ci"))
    git_server.git(tmp_path / "git" / "cart", "add", ".gocdnext")
    git_server.git(tmp_path / "git" / "cart", "commit", "--quiet", "-m", "pipelines")
    with git_server.http_git_server(tmp_path / "git") as address:
        yield f"http://{address}/cart"


@pytest.fixture
async def near(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A server that may call this machine."""
    async with served(database_url, tmp_path / "state", variables={"GOCDNEXT_OUTBOUND_ALLOW": "127.0.0.1"}) as world:
        yield world


async def test_a_credential_opens_a_repository_everywhere(
    near: World, private: str, capfd: pytest.CaptureFixture[str]
) -> None:
    world, host = near, private.split("/")[2]
    source = {"url": private, "provider": "github"}
    answer = await world.http.post("/api/v1/projects/apply", json={"slug": "cart", "scm_source": source})
    assert answer.status_code == 502
    assert (await post(world, provider="github", host=host, auth_ref=PASSWORD)).status_code == 201
    answer = await world.http.post("/api/v1/projects/apply", json={"slug": "cart", "scm_source": source})
    assert answer.status_code == 502, "not in clear, unless somebody says so"
    kept = await post(world, provider="github", host=host, auth_ref=PASSWORD, api_base=f"http://{host}/api")
    assert kept.status_code == 201
    answer = await world.http.post("/api/v1/projects/apply", json={"slug": "cart", "scm_source": source})
    assert answer.status_code == 200, answer.text
    ids = [entry["id"] for entry in (await get(world, "/api/v1/projects/cart"))["pipelines"]]
    run_id = await world.trigger(ids[0])
    await world.db.execute("UPDATE scm_sources SET poll_interval_ns = 60000000000")
    assert world.app is not None
    access = world.services.access
    assert await polling.poll(
        world.db, world.runs, clock=world.clock, draw=lambda: 0.0, ask=world.services.configs.remotes.heads
    ) == 0, "the head is known"  # fmt: skip
    assert await world.db.fetchval("SELECT last_poll_error FROM material_poll_state") is None
    await world.agent_online()
    await world.runs.dispatch(UUID(run_id))
    (sent,) = world.fleet.sent
    assert PASSWORD not in str(sent)
    dressed = access.dressed(sent)
    assert dressed.checkouts[0].url == f"http://x-access-token:{PASSWORD}@{host}/cart"
    assert PASSWORD in dressed.masks
    assert access.dressed(with_fork(sent)).checkouts == sent.checkouts
    paths = ("/api/v1/projects/cart", PATH, "/api/v1/admin/audit", f"/api/v1/runs/{run_id}", "/api/v1/projects")
    spoken = "".join([(await world.http.get(path)).text for path in paths])
    out, err = capfd.readouterr()
    assert PASSWORD not in spoken + out + err


def with_fork(assignment: Assignment) -> Assignment:
    return replace(assignment, from_fork=True)


async def test_whose_credential_a_url_gets(world: World) -> None:
    access = world.services.access
    project, other = uuid4(), uuid4()
    for provider, token in (("gitlab", "lab-token-1"), ("bitbucket", "bot:p@ss/word")):
        assert (await post(world, provider=provider, host="git.acme.example", auth_ref=token)).status_code == 201
    url = "https://git.acme.example/shop/cart.git"
    assert access.url(url, project, provider="gitlab") == "https://oauth2:lab-token-1@git.acme.example/shop/cart.git"
    assert access.url(url, provider="bitbucket") == "https://bot:p%40ss%2Fword@git.acme.example/shop/cart.git"
    assert access.url(url, provider="github", token="ghp_x").startswith("https://x-access-token:ghp_x@")
    for same in (
        "http://git.acme.example/shop/cart",
        "https://git.acme.example.evil.example/x",
        "https://git.acme.example:8443/x",
        "https://git.acme.example@evil.example/x",
        "https://u@git.acme.example/x",
        "git@git.acme.example:shop/cart",
        "ssh://git.acme.example/x",
        "file:///srv/git/x",
        "/srv/git/x",
        "https://[::1",
        "",
    ):
        assert access.url(same, project) == same
    assert access.url("https://GIT.acme.example/x") == access.url("https://git.acme.example/x")
    applied = await world.apply(scm_source={"url": url, "provider": "gitlab", "auth_ref": "own-token"})
    project = UUID(applied["project_id"])
    assert access.url(url, project) == "https://oauth2:own-token@git.acme.example/shop/cart.git"
    assert access.url(url, other).startswith("https://bot:"), "the token of a project is for nobody else"


async def test_credentials_follow_the_key(world: World) -> None:
    await post(world, **GITLAB)
    fresh = Keyring([bytes(32), KEY])
    assert (await scm_credentials.reseal(world.db, fresh)).done == 1
    (kept,) = await scm_credentials.listed(world.db, Keyring([bytes(32)]), None, 0)
    assert kept.preview == "glpa…9f2c"
    (kept,) = await scm_credentials.listed(world.db, KEYRING, None, 0)
    assert kept.preview == "", "what cannot be opened is not there"
    await world.services.access.refresh()
    assert world.services.access.url("https://git.acme.example/x") == "https://git.acme.example/x"
