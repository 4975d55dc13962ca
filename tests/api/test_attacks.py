"""What somebody may try over HTTP who is not let in, or not that far (anchors E 1, 5, 15, 16). Every route is walked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID, uuid4

import httpx

from gocdnext.api.routing import SAFE
from gocdnext.auth import accounts, api_tokens, groups, roles, service_accounts
from gocdnext.auth.api_tokens import Owner
from gocdnext.auth.roles import Role
from tests.api.crowd import ADMIN, bearer, person
from tests.api.test_conventions import error
from tests.api.test_project_settings import cache
from tests.api.test_role_walk import session
from tests.api.world import PIPELINE, World, pipeline

ROUTES = [(*route.split(" "), minimum) for route, minimum in roles.MINIMUM.items()]
PROTECTED = [(method, path) for method, path, minimum in ROUTES if minimum is not Role.PUBLIC]
WRITES = [(method, path) for method, path in PROTECTED if method not in SAFE]
NOBODY = "6a0c1c4e-7c55-4f0f-8a33-0f6f6a0f2b10"


@dataclass
class Things:
    """One of each, by the name of the variable that stands for it in paths."""

    found: dict[str, str]

    def address(self, path: str, *, there: bool) -> str:
        """A path to things that are there, or to some that are not."""
        return re.sub(r"<(\w+)>", lambda match: self.found.get(match[1], NOBODY) if there else NOBODY, path)


async def one_of_each(world: World) -> Things:
    """A server in use."""
    world.http.headers.update(ADMIN)
    await world.apply("billing", {"ci.yaml": PIPELINE})
    (entry,) = (await world.http.get("/api/v1/projects/billing")).json()["pipelines"]
    agent = await world.agent_online()
    run_id = await world.trigger(entry["id"])
    await world.runs.dispatch(UUID(run_id))
    job = (await world.http.get(f"/api/v1/runs/{run_id}")).json()["stages"][0]["jobs"][0]["id"]
    body = {"name": "TOKEN", "value": "x"}
    for path in ("/api/v1/projects/billing/secrets", "/api/v1/admin/secrets"):
        assert (await world.http.post(path, json=body)).status_code == 201
    someone = await person(world, "viewer")
    bot = await service_accounts.create(world.identity, "bot", "", "viewer", None)
    token, _ = await api_tokens.create(world.identity, Owner(user_id=someone.id), "laptop", None)
    group = await groups.create(world.identity, "managers", "", None)
    profile = {"name": "big", "engine": "kubernetes"}
    credential = {"provider": "gitlab", "host": "git.acme.example", "auth_ref": "x" * 20}
    made = {
        "profile_id": (await world.http.post("/api/v1/admin/runner-profiles", json=profile)).json()["id"],
        "credential_id": (await world.http.post("/api/v1/admin/scm-credentials", json=credential)).json()["id"],
    }
    del world.http.headers["Authorization"]
    return Things(
        made
        | {
            "slug": "billing",
            "name": "TOKEN",
            "run_id": run_id,
            "job_id": job,
            "pipeline_id": entry["id"],
            "agent_id": str(agent.id),
            "user_id": str(someone.id),
            "account_id": str(bot["id"]),
            "token_id": str(token["id"]),
            "group_id": str(group["id"]),
            "cache_id": await cache(world, "billing", "npm", 5),
        }
    )


async def ask(world: World, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    return await world.http.request(method, path, headers=headers)


def told(answer: httpx.Response) -> tuple[object, ...]:
    """All of an answer but what is different each time."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
    return answer.status_code, answer.content, headers


async def test_nobody_learns_whether_a_thing_exists_that_they_may_not_see(guarded: World) -> None:
    things = await one_of_each(guarded)
    callers = {
        Role.PUBLIC: {},
        Role.VIEWER: (await person(guarded, "viewer")).headers,
        Role.MAINTAINER: (await person(guarded, "maintainer")).headers,
    }
    for method, path, minimum in ROUTES:
        for role, headers in callers.items():
            if "<" not in path or role >= minimum or minimum is Role.PUBLIC:
                continue
            real = await ask(guarded, method, things.address(path, there=True), headers)
            unreal = await ask(guarded, method, things.address(path, there=False), headers)
            assert real.status_code == (401 if role is Role.PUBLIC else 403), (method, path)
            assert told(real) == told(unreal), (method, path, role)


async def test_what_belongs_to_others_is_not_there(guarded: World) -> None:
    things = await one_of_each(guarded)
    mine = (await person(guarded, "admin")).headers
    # Tokens of another person, a token under another account, a cache under another project, a job under another run.
    nowhere = [
        ("DELETE", f"/api/v1/account/api-tokens/{things.found['token_id']}"),
        ("DELETE", f"/api/v1/admin/service-accounts/{things.found['account_id']}/tokens/{things.found['token_id']}"),
        ("DELETE", f"/api/v1/projects/nope/caches/{things.found['cache_id']}"),
        ("GET", f"/api/v1/runs/{uuid4()}/jobs/{things.found['job_id']}/log.txt"),
        ("DELETE", "/api/v1/projects/nope/secrets/TOKEN"),
    ]
    for method, path in nowhere:
        assert (await ask(guarded, method, path, mine)).status_code == 404, path
    assert await guarded.db.fetchval("SELECT count(*) FROM api_tokens WHERE revoked_at IS NOT NULL") == 0
    assert await guarded.db.fetchval("SELECT count(*) FROM caches") == 1


async def test_no_page_of_another_site_writes_with_the_cookie_of_an_admin(guarded: World) -> None:
    things = await one_of_each(guarded)
    cookie = await session(guarded, "admin")
    for method, path in WRITES:
        where = things.address(path, there=True)
        for theirs in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = await ask(guarded, method, where, {**cookie, **theirs})
            assert "another site" in error(answer, 403), (method, path)
    assert (await ask(guarded, "GET", "/api/v1/me", cookie)).status_code == 200, "nothing was done"
    assert (await guarded.http.get("/api/v1/projects/billing", headers=cookie)).status_code == 200


async def test_without_authentication_pages_of_other_sites_cannot_write(world: World) -> None:
    body = {"slug": "evil", "files": [{"name": "ci.yaml", "content": PIPELINE}]}
    for theirs in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        answer = await world.http.post("/api/v1/projects/apply", json=body, headers=theirs)
        assert "another site" in error(answer, 403)
    for ours in ({}, {"Origin": world.base}, {"Sec-Fetch-Site": "same-origin", "Origin": world.base}):
        assert (await world.http.post("/api/v1/projects/apply", json=body, headers=ours)).status_code == 200


async def test_what_agents_have_opens_nothing_here(guarded: World) -> None:
    made = await guarded.http.post("/api/v1/agents", json={"name": "runner"}, headers=ADMIN)
    assert made.status_code == 201, made.text
    for token in (made.json()["token"], "0" * 64):
        for method, path in PROTECTED:
            answer = await ask(guarded, method, re.sub(r"<\w+>", NOBODY, path), bearer(token))
            assert error(answer, 401) == "not authenticated", (method, path)


async def test_no_value_is_read_as_the_name_of_a_file(world: World) -> None:
    for value in ("@/etc/passwd", "file:///etc/passwd", "$(cat /etc/passwd)", "${HOME}", "{{secret:TOKEN}}"):
        files = {"ci.yaml": pipeline("ci", variables={"V": value})}
        await world.apply("billing", files, name=value, description=value)
        found = (await world.http.get("/api/v1/projects/billing")).json()
        assert (found["project"]["name"], found["project"]["description"]) == (value, value)
        answer = await world.http.put(
            "/api/v1/projects/billing/labels", json={"labels": [{"key": "k", "value": value}]}
        )
        assert answer.status_code == 204
        assert (await world.http.get("/api/v1/projects/billing/labels")).json()["labels"][0]["value"] == value


async def test_names_cannot_add_headers_or_lines(guarded: World) -> None:
    bad = "x\r\nSet-Cookie: gocdnext_session=0"
    tries: list[tuple[str, str, dict[str, object]]] = [
        ("POST", "/api/v1/admin/users", {"email": f"{bad}@x", "password": "long enough"}),
        ("POST", "/api/v1/admin/users", {"email": "a@x", "name": bad, "password": "long enough"}),
        ("POST", "/api/v1/admin/groups", {"name": bad}),
        ("POST", "/api/v1/admin/groups", {"name": "g", "description": bad}),
        ("POST", "/api/v1/admin/service-accounts", {"name": bad, "role": "viewer"}),
        ("POST", "/api/v1/account/api-tokens", {"name": bad}),
        ("POST", "/api/v1/agents", {"name": bad}),
        ("POST", "/api/v1/projects/apply", {"slug": bad, "files": []}),
        ("POST", "/api/v1/admin/secrets", {"name": bad, "value": "x"}),
        ("POST", "/api/v1/admin/runner-profiles", {"name": bad, "engine": "kubernetes"}),
        ("POST", "/api/v1/admin/scm-credentials", {"provider": "gitlab", "host": bad, "auth_ref": "x"}),
    ]
    someone = await person(guarded, "admin")
    for method, path, body in tries:
        answer = await guarded.http.request(method, path, json=body, headers=someone.headers)
        assert answer.status_code == 400, (path, answer.text)
        assert "set-cookie" not in answer.headers
    # In the address and in headers of the request, where they might come back.
    for path in ("/api/v1/projects/a%0d%0aSet-Cookie:%20x", "/auth/login/local?next=/%0d%0aSet-Cookie:%20x"):
        answer = await guarded.http.get(path, headers=someone.headers)
        assert "set-cookie" not in answer.headers
    answer = await guarded.http.get("/healthz", headers={"X-Request-Id": "a b;c", "Origin": "http://a b"})
    assert " " not in answer.headers["x-request-id"]
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_role_that_changes_is_the_role_of_every_credential_at_once(guarded: World) -> None:
    someone, _ = await person(guarded, "admin"), await person(guarded, "admin")
    assert (await guarded.http.get("/api/v1/admin/users", headers=someone.headers)).status_code == 200
    await accounts.set_role(guarded.identity, someone.id, "viewer", None)
    assert error(await guarded.http.get("/api/v1/admin/users", headers=someone.headers), 403) == "forbidden"
