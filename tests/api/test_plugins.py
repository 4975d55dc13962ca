"""GET /api/v1/plugins, and `with:` at apply (contract-runs 7.1, 7.3)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gocdnext.plugins.catalogue import load
from tests.api.test_conventions import error
from tests.api.world import World, pipeline, repository, served

PLUGINS = "/api/v1/plugins"
RSYNC = """\
name: rsync
description: " Copy a tree to a host.\\n"
category: deploy
inputs:
  port: {default: 22}
  dest: {required: true, description: "user@host:/path"}
examples:
  - {name: basic, yaml: "push:\\n  uses: gocdnext/rsync@v1\\n\\n"}
"""


@pytest.fixture
async def catalogued(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A server with the plugins `bare` and `rsync`."""
    for name, text in (("rsync", RSYNC), ("bare", "name: bare")):
        (tmp_path / "plugins" / name).mkdir(parents=True)
        (tmp_path / "plugins" / name / "plugin.yaml").write_text(text)
    async with served(database_url, tmp_path / "state", catalogue=load([tmp_path / "plugins"])) as world:
        yield world


async def test_the_catalogue_to_the_letter(catalogued: World) -> None:
    answer = await catalogued.http.get(PLUGINS)
    assert answer.status_code == 200
    assert answer.json() == {
        "plugins": [
            {"name": "bare", "inputs": []},
            {
                "name": "rsync",
                "description": "Copy a tree to a host.",
                "category": "deploy",
                "inputs": [
                    {"name": "dest", "required": True, "description": "user@host:/path"},
                    {"name": "port", "required": False, "default": "22"},
                ],
                "examples": [{"name": "basic", "yaml": "push:\n  uses: gocdnext/rsync@v1"}],
            },
        ]
    }


async def test_limit_and_offset(catalogued: World) -> None:
    async def names(query: str) -> list[str]:
        return [plugin["name"] for plugin in (await catalogued.http.get(f"{PLUGINS}?{query}")).json()["plugins"]]

    assert await names("limit=1") == ["bare"]
    assert await names("offset=1") == ["rsync"]
    assert await names("limit=5&offset=2") == []
    error(await catalogued.http.get(f"{PLUGINS}?limit=0"), 400)
    error(await catalogued.http.get(f"{PLUGINS}?offset=-1"), 400)


async def test_an_empty_catalogue(world: World) -> None:
    assert (await world.http.get(PLUGINS)).json() == {"plugins": []}


async def test_it_wants_a_viewer(guarded: World) -> None:
    error(await guarded.http.get(PLUGINS), 401)


def uses(name: str, **inputs: str) -> dict[str, object]:
    return {"stage": "build", "uses": name, "with": inputs}


async def refused(world: World, text: str) -> str:
    body = {"slug": "billing", "files": [{"name": "ci.yaml", "content": text}]}
    return error(await world.http.post("/api/v1/projects/apply", json=body), 400)


async def test_inputs_are_checked_at_apply(catalogued: World) -> None:
    told = await refused(catalogued, pipeline("p", jobs={"push": uses("gocdnext/rsync@v1")}))
    assert 'job "push": plugin rsync: required input "dest" is missing' in told
    told = await refused(catalogued, pipeline("p", jobs={"push": uses("rsync", dest="", prot="1")}))
    assert 'job "push": plugin rsync: unknown input "prot"; known inputs: dest, port' in told
    entry = {"on": "failure", "uses": "x/gocdnext-plugin-rsync@v1", "with": {"to": "x"}}
    told = await refused(catalogued, pipeline("p", notifications=[entry]))
    assert told.startswith("ci.yaml:")
    assert 'notifications[0]: plugin rsync: required input "dest" is missing' in told
    assert (await catalogued.http.get("/api/v1/projects/billing")).status_code == 404


async def test_what_fits_and_what_is_not_known_is_accepted(catalogued: World) -> None:
    jobs = {"push": uses("gocdnext/rsync@v1", dest=""), "other": uses("acme/other", anything="x")}
    await catalogued.apply(files={"ci.yaml": pipeline("p", jobs=jobs)})


async def test_every_flaw_is_in_the_answer(catalogued: World) -> None:
    body = {"a": uses("rsync"), "b": uses("rsync", dest="x", y="z")}
    files = [{"name": "ci.yaml", "content": pipeline("p", jobs=body)}]
    answer = await catalogued.http.post("/api/v1/projects/apply", json={"slug": "billing", "files": files})
    assert [(found["kind"], found["path"]) for found in answer.json()["errors"]] == [
        ("plugin_input_missing", "jobs.a"),
        ("plugin_input_unknown", "jobs.b"),
    ]


async def test_files_of_a_repository_are_not_checked(catalogued: World, tmp_path: Path) -> None:
    text = pipeline("p", jobs={"push": uses("rsync")})
    repository(tmp_path / "repo", {".gocdnext/ci.yaml": text})
    scm = {"provider": "manual", "url": f"file://{tmp_path / 'repo'}"}
    body = {"slug": "billing", "files": [], "scm_source": scm}
    answer = await catalogued.http.post("/api/v1/projects/apply", content=json.dumps(body))
    assert answer.status_code == 200, answer.text
    assert [entry["name"] for entry in answer.json()["pipelines"]] == ["p"]
