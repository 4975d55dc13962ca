"""Runner profiles over HTTP, and what jobs become through them (contract-admin 7.11, spec-pipelines 3.5)."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from gocdnext.errors import InvalidError
from gocdnext.fleet.frames import job_assignment
from gocdnext.runs.assignment import Assignment
from gocdnext.runs.creation import NewRun
from gocdnext.secrets import profile_file, profiles
from gocdnext.secrets.sealing import Keyring
from tests.api.test_conventions import error
from tests.api.test_runs import get
from tests.api.world import World, pipeline
from tests.secrets_room import KEY

PATH = "/api/v1/admin/runner-profiles"
BIG: dict[str, Any] = {
    "name": "big",
    "description": "large machines",
    "engine": "kubernetes",
    "default_image": "debian:13",
    "default_cpu_request": "500m",
    "default_mem_limit": "1Gi",
    "max_cpu": "2",
    "max_mem": "4Gi",
    "tags": ["big", "ssd"],
    "config": {"namespace": "ci"},
    "node_selector": {"acme.example/pool": "big"},
    "tolerations": [{"key": "ci", "effect": "NoExecute", "toleration_seconds": 60}],
    "preferred_node_affinity": [
        {"weight": 10, "match_expressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}
    ],
    "env": {"HTTP_PROXY": "http://proxy:3128", "REGION": "eu"},
}
SECRETS = {"NPM_TOKEN": "npm-value-1", "SHARED": "{{secret:GLOBAL_ONE}}"}


async def post(world: World, **change: object) -> httpx.Response:
    return await world.http.post(PATH, json={**BIG, **change})


async def made(world: World, **change: object) -> dict[str, Any]:
    answer = await post(world, **change)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_profile_is_made_changed_listed_and_removed(world: World) -> None:
    found = await made(world, secrets=SECRETS)
    assert found == {
        **BIG,
        "default_cpu_limit": "",
        "default_mem_request": "",
        "tolerations": [{"key": "ci", "operator": "Equal", "effect": "NoExecute", "toleration_seconds": 60}],
        "secret_keys": ["NPM_TOKEN", "SHARED"],
        "secret_refs": {"SHARED": "GLOBAL_ONE"},
        "id": found["id"],
        "created_at": "2026-04-28T13:00:00Z",
        "updated_at": "2026-04-28T13:00:00Z",
    }
    assert await get(world, PATH) == {"profiles": [found]}
    assert error(await post(world), 409) == "profile name already exists"
    world.now += timedelta(hours=1)
    change = {
        **BIG,
        "name": "huge",
        "secrets": {"NPM_TOKEN": profiles.PRESERVE, "NEW": "v", "NEVER": profiles.PRESERVE},
    }
    assert (await world.http.put(f"{PATH}/{found['id']}", json=change)).status_code == 204
    (now,) = (await get(world, PATH))["profiles"]
    assert (now["name"], now["secret_keys"], now["secret_refs"]) == ("huge", ["NEW", "NPM_TOKEN"], {})
    assert now["updated_at"] == "2026-04-28T14:00:00Z"
    second = await made(world, name="other")
    taken = await world.http.put(f"{PATH}/{second['id']}", json={**BIG, "name": "huge"})
    assert error(taken, 409) == "profile name already exists"
    assert error(await world.http.put(f"{PATH}/{uuid4()}", json=BIG), 404) == "profile not found"
    assert error(await world.http.put(f"{PATH}/x", json=BIG), 400) == "invalid profile id"
    assert (await world.http.delete(f"{PATH}/{found['id']}")).status_code == 204
    assert error(await world.http.delete(f"{PATH}/{found['id']}"), 404) == "profile not found"
    assert error(await world.http.delete(f"{PATH}/x"), 400) == "invalid profile id"
    events = (await get(world, "/api/v1/admin/audit", target_type="runner_profile"))["events"]
    assert {event["action"].partition(".")[2] for event in events} == {"create", "update", "delete"}
    assert "npm-value-1" not in str(events)
    assert "NPM_TOKEN" in str(events)


async def test_what_is_refused_of_profiles(world: World) -> None:
    where = "preferred_node_affinity: "

    def term(weight: int = 1, key: str = "a", operator: str = "Exists", **more: object) -> list[dict[str, object]]:
        return [{"weight": weight, "match_expressions": [{"key": key, "operator": operator, **more}]}]

    refused: list[tuple[dict[str, object], str]] = [
        ({"name": ""}, "name is required"),
        ({"name": "a b"}, "name may only contain letters, digits, dash, underscore, dot"),
        ({"name": "a\r\nb"}, "name may only contain letters, digits, dash, underscore, dot"),
        ({"engine": None}, "engine is required"),
        ({"engine": "docker"}, "unsupported engine (allowed: kubernetes)"),
        ({"env": {"lower": "x"}}, 'env key "lower" invalid: use UPPER_SNAKE_CASE (^[A-Z_][A-Z0-9_]*$)'),
        ({"secrets": {"A-B": "x"}}, 'secret key "A-B" invalid: use UPPER_SNAKE_CASE (^[A-Z_][A-Z0-9_]*$)'),
        ({"max_cpu": "lots"}, "max_cpu: 'lots' is not a quantity; write for example 500m, 1.5 or 512Mi"),
        ({"default_cpu_request": "3"}, 'default cpu request 3 is over the maximum 2 of runner profile "big"'),
        ({"tags": [" "]}, "a tag must be one line of 1 to 255 characters"),
        ({"node_selector": {"-": "x"}}, 'node_selector: "-" is not a Kubernetes label name'),
        ({"tolerations": [{"operator": "Equal"}]}, "toleration: key is required unless operator is Exists"),
        ({"tolerations": [{"operator": "Exists", "value": "x"}]}, "toleration: operator Exists takes no value"),
        (
            {"tolerations": [{"key": "a", "toleration_seconds": 1}]},
            "toleration: toleration_seconds needs effect NoExecute",
        ),
        ({"preferred_node_affinity": term(0)}, f"{where}weight must be from 1 to 100"),
        ({"preferred_node_affinity": [{"weight": 1, "match_expressions": []}]}, f"{where}a term needs an expression"),
        ({"preferred_node_affinity": term(operator="In")}, f"{where}operator In needs values"),
        ({"preferred_node_affinity": term(operator="Exists", values=["x"])}, f"{where}operator Exists takes no values"),
        (
            {"preferred_node_affinity": term(operator="Gt", values=["x"])},
            f"{where}operator Gt takes exactly one whole number",
        ),
        ({"preferred_node_affinity": term() * 11}, f"{where}more than 10 terms"),
    ]
    for change, message in refused:
        assert error(await post(world, **change), 400) == message
    for body in (b'{"nope": 1}', b"{} {}", b"[]", b"", b'{"name": 1}', b'{"tolerations": [{"x": 1}]}', b"[" * 9000):
        assert error(await world.http.post(PATH, content=body), 400).startswith("invalid json: "), body[:40]
    assert error(await post(world, secrets={"A": "se\0cret"}), 400) == "a value contains a NUL character"
    assert error(await post(world, env={"A": "x" * 16_384}), 400) == "read body: larger than 16384 bytes"
    assert (await get(world, PATH))["profiles"] == []


JOB = {"stage": "build", "script": ["make"], "agent": {"profile": "big", "tags": ["ssd"]}}


async def apply(world: World, **change: object) -> httpx.Response:
    text = pipeline("ci", variables={"REGION": "us"}, jobs={"compile": {**JOB, **change}})
    body = {"slug": "billing", "files": [{"name": "ci.yaml", "content": text}]}
    return await world.http.post("/api/v1/projects/apply", json=body)


async def dispatched(world: World, detail: dict[str, object] | None = None) -> tuple[str, Assignment | None]:
    """A run of the pipeline, and what an agent with all tags is told of its job."""
    (entry,) = (await get(world, "/api/v1/projects/billing"))["pipelines"]
    before = len(world.fleet.sent)
    new = NewRun(UUID(entry["id"]), "manual", "somebody", cause_detail=detail or {})
    made = await world.runs.create(new)
    await world.runs.dispatch(made.run_id)
    return str(made.run_id), world.fleet.sent[-1] if len(world.fleet.sent) > before else None


async def test_what_a_job_becomes_through_its_profile(world: World) -> None:
    told = error(await apply(world), 422)
    assert told.startswith('pipeline "ci": job "compile": unknown runner profile "big"')
    profile = await made(world, secrets=SECRETS)
    over = error(await apply(world, resources={"limits": {"cpu": "3"}, "requests": {"memory": "2Gi"}}), 422)
    assert 'job "compile": cpu limit 3 is over the maximum 2 of runner profile "big"' in over
    assert 'job "compile": memory request 2Gi is over its limit 1Gi' in over
    assert (await apply(world)).status_code == 200
    agent = await world.agent_online()
    agent.tags = frozenset({"ssd", "big"})
    run_id, sent = await dispatched(world)
    assert sent is None, "a secret that its profile points to is not there"
    (job,) = (await get(world, f"/api/v1/runs/{run_id}"))["stages"][0]["jobs"]
    assert job["error"] == "runner profile: big: SHARED: there is no global secret GLOBAL_ONE"
    secret = {"name": "GLOBAL_ONE", "value": "global-value"}
    assert (await world.http.post("/api/v1/admin/secrets", json=secret)).status_code == 201
    _, sent = await dispatched(world)
    assert sent is not None
    assert sent.definition.image == "debian:13"
    assert sent.definition.tags == ("ssd", "big")
    assert sent.env["HTTP_PROXY"] == "http://proxy:3128"
    assert sent.env["REGION"] == "us", "the pipeline's own variables win"
    assert (sent.env["NPM_TOKEN"], sent.env["SHARED"]) == ("npm-value-1", "global-value")
    assert {"npm-value-1", "global-value"} <= set(sent.masks)
    frame = job_assignment(sent)
    assert (frame.profile, frame.resources.cpu_request, frame.resources.memory_limit) == ("big", "500m", "1Gi")
    assert dict(frame.node_selector) == {"acme.example/pool": "big"}
    assert (frame.tolerations[0].key, frame.tolerations[0].operator) == ("ci", "Equal")
    assert list(frame.preferred_node_affinity[0].match_expressions[0].values) == ["a", "b"]
    gone = await world.http.delete(f"{PATH}/{profile['id']}")
    assert error(gone, 409).startswith("profile big is used by 1 pipelines and 1 active runs")
    renamed = await world.http.put(f"{PATH}/{profile['id']}", json={**BIG, "name": "new"})
    assert error(renamed, 409).startswith("profile big is used by")
    _, sent = await dispatched(world, {"from_fork": True})
    assert sent is not None
    assert sent.env["HTTP_PROXY"] == "http://proxy:3128"
    assert not {"NPM_TOKEN", "SHARED"} & set(sent.env), "what a fork proposes gets no secrets"


async def test_the_default_profile_is_for_jobs_that_name_none(world: World) -> None:
    await world.apply(files={"ci.yaml": pipeline("ci", jobs={"compile": {"stage": "build", "script": ["make"]}})})
    await world.agent_online()
    _, sent = await dispatched(world)
    assert sent is not None
    assert "REGION" not in sent.env
    profile = await made(world, name="default", secrets={"NPM_TOKEN": "npm-value-1"})
    await world.apply(files={"ci.yaml": pipeline("ci", jobs={"compile": {"stage": "build", "script": ["make"]}})})
    _, sent = await dispatched(world)
    assert sent is not None
    assert (sent.env["REGION"], sent.env["NPM_TOKEN"]) == ("eu", "npm-value-1")
    assert (sent.definition.image, sent.definition.tags) == ("", ())
    assert sent.definition.resources.requests.cpu == "500m"
    assert (await world.http.delete(f"{PATH}/{profile['id']}")).status_code == 204
    _, sent = await dispatched(world)
    assert sent is not None
    assert "REGION" not in sent.env


async def test_secrets_of_profiles_follow_the_key(world: World) -> None:
    await made(world, secrets=SECRETS)
    assert (await profiles.reseal(world.db, Keyring([bytes(32), KEY]))).done == 1
    values = await world.db.run(lambda conn: profiles.for_jobs(conn, Keyring([bytes(32)])))
    assert values["big"].secrets == {"NPM_TOKEN": "npm-value-1"}
    assert list(values["big"].unreadable) == ["SHARED"]


FILE = """
profiles:
  - name: big
    description: from the file
    tags: [big]
    max_cpu: 2
    env: {REGION: eu}
    tolerations: [{key: ci, effect: NoExecute, toleration_seconds: 60}]
  - name: small
    default_image: ~
"""


async def test_profiles_of_a_file(world: World, tmp_path: Path) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(FILE)
    await made(world, secrets={"NPM_TOKEN": "npm-value-1"})
    await made(world, name="other")
    for _ in range(2):
        assert await profile_file.load(world.db, path, world.now, uuid4) == 2
    found = {one["name"]: one for one in (await get(world, PATH))["profiles"]}
    assert set(found) == {"big", "small", "other"}
    assert (found["big"]["description"], found["big"]["max_cpu"], found["big"]["default_image"]) == (
        "from the file",
        "2",
        "",
    )
    assert found["big"]["secret_keys"] == ["NPM_TOKEN"]
    assert found["big"]["tolerations"][0]["operator"] == "Equal"
    for text, message in (
        ("profiles: [{name: a, nope: 1}]", "Object contains unknown field `nope`"),
        ("profile: []", "Object contains unknown field `profile`"),
        ("profiles: [{name: a b}]", "profile 'a b': name may only contain letters"),
        ("profiles: [{name: a, env: {lower: x}}]", "profile 'a': env key \"lower\" invalid"),
        ("profiles: [{name: a, name: b}]", "a key must be a text, and there only once"),
        ("profiles: [", "not valid YAML"),
        ("", "the file is empty"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidError, match=re.escape(message)) as caught:
            await profile_file.load(world.db, path, world.now, uuid4)
        assert str(caught.value).startswith(str(path))
    with pytest.raises(InvalidError, match="No such file"):
        await profile_file.load(world.db, tmp_path / "nowhere", world.now, uuid4)
