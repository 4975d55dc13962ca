"""POST /api/v1/projects/apply over real HTTP (contract-runs 2.4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.api.test_conventions import error
from tests.api.world import PIPELINE, World, commit, pipeline, repository

APPLY = "/api/v1/projects/apply"


async def post(world: World, body: Any) -> httpx.Response:
    return await world.http.post(APPLY, json=body)


def files(*entries: tuple[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "content": text} for name, text in entries]


async def test_new_project(world: World) -> None:
    body = await world.apply(files={"b.yaml": pipeline("second"), "a.yaml": pipeline("first")})
    assert body["project_created"] is True
    assert body["project_slug"] == "billing"
    assert [p["name"] for p in body["pipelines"]] == ["second", "first"]
    assert body["pipelines_applied"] == 2
    assert all(p["created"] and p["materials_added"] == 1 and p["materials_removed"] == 0 for p in body["pipelines"])
    assert body["pipelines_removed"] == []
    assert "warnings" not in body
    assert "scm_source" not in body


async def test_version_moves_only_with_the_definition(world: World) -> None:
    first = await world.apply()
    detail = (await world.http.get("/api/v1/projects/billing")).json()
    world.now = world.now.replace(hour=15)
    again = await world.apply(files={"ci.yaml": "# other words\n" + PIPELINE})
    assert again["project_created"] is False
    assert again["pipelines"][0]["created"] is False
    assert again["pipelines"][0]["pipeline_id"] == first["pipelines"][0]["pipeline_id"]
    second = (await world.http.get("/api/v1/projects/billing")).json()
    assert second["pipelines"] == detail["pipelines"]
    assert second["project"]["updated_at"] == "2026-04-28T15:00:00Z"
    yaml = await world.http.get(f"/api/v1/pipelines/{first['pipelines'][0]['pipeline_id']}/yaml")
    assert yaml.json() == {"yaml": "# other words\n" + PIPELINE, "reconstructed": False}
    await world.apply(files={"ci.yaml": PIPELINE.replace("make test", "make check")})
    third = (await world.http.get("/api/v1/projects/billing")).json()
    assert third["pipelines"][0]["definition_version"] == 2
    assert third["pipelines"][0]["updated_at"] == "2026-04-28T15:00:00Z"
    assert await world.db.fetchval("SELECT count(*) FROM pipeline_definitions") == 2


async def test_name_and_description_are_overwritten_every_time(world: World) -> None:
    await world.apply(name="Billing", description="invoices", config_path="ci/pipelines")
    project = (await world.http.get("/api/v1/projects/billing")).json()["project"]
    assert (project["name"], project["description"], project["config_path"]) == ("Billing", "invoices", "ci/pipelines")
    await world.apply()
    project = (await world.http.get("/api/v1/projects/billing")).json()["project"]
    assert project["name"] == "billing"
    assert "description" not in project
    assert project["config_path"] == "ci/pipelines"


async def test_what_is_not_wanted_goes(world: World) -> None:
    await world.apply(files={"a.yaml": pipeline("a"), "b.yaml": pipeline("b")})
    materials = [{"manual": True}, {"cron": {"expression": "0 3 * * *"}}]
    body = await world.apply(files={"b.yaml": pipeline("b", materials=materials)})
    assert body["pipelines_removed"] == ["a"]
    assert body["pipelines"][0]["materials_added"] == 1
    assert "warnings" not in body
    run_id = await world.trigger(body["pipelines"][0]["pipeline_id"])
    body = await world.apply(files={"b.yaml": pipeline("b")})
    assert body["pipelines"][0]["materials_removed"] == 1
    answer = await post(world, {"slug": "billing", "files": []})
    assert answer.json()["pipelines"] == []
    assert answer.json()["pipelines_removed"] == ["b"]
    assert (await world.http.get(f"/api/v1/runs/{run_id}")).status_code == 404
    assert (await world.http.get("/api/v1/projects/billing")).json()["project"]["status"] == "no_pipelines"


async def test_form_and_json_store_equal_rows(world: World) -> None:
    scm = {"provider": "github", "url": "https://github.com/Acme/Billing.git", "default_branch": "trunk"}
    text = pipeline("ci", when={"event": ["push"]})
    first = await world.apply("one", {"ci.yaml": text}, name="N", description="D", config_repo="r", scm_source=scm)
    parts = {"pipeline": (".gocdnext/ci.yaml", text), "extra": ("README.md", "hello")}
    fields = {"slug": "two", "name": "N", "description": "D", "config_repo": "r"}
    flat = {f"scm_{key}": value for key, value in scm.items()}
    second = (await world.http.post(APPLY, data={**fields, **flat}, files=parts)).json()
    third = (
        await world.http.post(
            APPLY,
            data={"metadata": json.dumps({**fields, "slug": "three"}), "scm_source": json.dumps(scm)},
            files={"ci.yaml": (None, text)},
        )
    ).json()
    assert second["warnings"] == ["README.md: skipped, its name does not end in .yaml or .yml"]
    assert "warnings" not in first
    assert "warnings" not in third
    rows = await world.db.fetch(
        "SELECT p.name, p.description, l.config_repo, l.name AS pipeline, l.source, l.source_file, d.definition::text,"
        " s.provider, s.url, s.clone_url, s.default_branch, m.type, m.fingerprint, m.config"
        " FROM projects p JOIN pipelines l ON l.project_id = p.id JOIN pipeline_definitions d ON d.id = l.definition_id"
        " JOIN scm_sources s ON s.project_id = p.id JOIN materials m ON m.pipeline_id = l.id ORDER BY p.slug, m.type"
    )
    assert len(rows) == 6
    assert [dict(row) for row in rows[:2]] == [dict(row) for row in rows[2:4]] == [dict(row) for row in rows[4:]]
    assert rows[0]["config"]["implicit"] is True
    assert rows[0]["config"]["branch"] == "trunk"
    assert rows[0]["url"] == "github.com/Acme/Billing"
    assert first["scm_source"].pop("id")
    assert len(first["scm_source"].pop("generated_webhook_secret")) == 64
    assert first["scm_source"] == {
        "provider": "github",
        "url": "https://github.com/Acme/Billing",
        "default_branch": "trunk",
        "created": True,
    }


async def test_bound_source_is_kept_and_changed(world: World) -> None:
    scm = {"provider": "manual", "url": "git@git.example.org:acme/x.git", "auth_ref": "ref"}
    first = await world.apply(scm_source=scm)
    assert first["scm_source"]["url"] == "https://git.example.org/acme/x"
    assert first["pipelines"][0]["materials_added"] == 2
    again = await world.apply()
    assert "scm_source" not in again
    assert again["pipelines"][0]["materials_removed"] == 0
    moved = await world.apply(scm_source={**scm, "url": "https://git.example.org/acme/y", "auth_ref": ""})
    assert moved["scm_source"]["created"] is False
    assert moved["scm_source"]["id"] == first["scm_source"]["id"]
    assert (moved["pipelines"][0]["materials_added"], moved["pipelines"][0]["materials_removed"]) == (1, 1)
    shown = (await world.http.get("/api/v1/projects/billing")).json()["scm_source"]
    assert shown["url"] == "https://git.example.org/acme/y"
    assert shown["auth_ref"] == "ref"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "invalid json: "),
        (b"not json", "invalid json: "),
        (b"null", "invalid json: "),
        (b"[]", "invalid json: "),
        (b'{"slug": 5}', "invalid json: "),
        (b'{"slug": "\\ud800"}', "invalid json: "),
        (b'{"slug": "a\xff"}', "invalid json: "),
        (b"[" * 100_000, "invalid json: "),
        (b'{"x": ' + b"[" * 100_000, "invalid json: "),
        (b"{}", "slug is required"),
        (b'{"slug": null}', "slug is required"),
        (b'{"slug": "a/b"}', "invalid slug"),
        (b'{"slug": ".."}', "invalid slug"),
        (b'{"slug": "a\\u0000"}', "invalid slug"),
        (b'{"slug": "a\\n"}', "invalid slug"),
        (b'{"slug": "' + b"a" * 256 + b'"}', "invalid slug"),
        (b'{"slug": "a", "config_path": "/etc"}', "invalid config_path: "),
        (b'{"slug": "a", "config_path": "a/../b"}', "invalid config_path: "),
        (b'{"slug": "a", "config_path": "' + b"a" * 513 + b'"}', "invalid config_path: "),
        (b'{"slug": "a", "files": [{"content": "x"}]}', "file entry missing name"),
        (b'{"slug": "a", "files": [{"name": "a\\u0000.yaml"}]}', "file names must be printable"),
        (
            b'{"slug": "a", "files": [{"name": "a.yaml", "content": "x\\n\\u0000"}]}',
            "a.yaml:2: the file contains a NUL",
        ),
        (b'{"slug": "a", "name": "x\\u0000"}', "name contains a NUL byte"),
        (b'{"slug": "a", "description": "x\\u0000"}', "description contains a NUL byte"),
        (b'{"slug": "a", "scm_source": {}}', "scm_source.url and scm_source.provider are required"),
        (b'{"slug": "a", "scm_source": {"provider": "github"}}', "scm_source.url and scm_source.provider are required"),
        (
            b'{"slug": "a", "scm_source": {"provider": "github", "url": "ext::sh -c id"}}',
            "scm_source: not a repository",
        ),
        (b'{"slug": "a", "scm_source": {"provider": "github", "url": "--upload-pack=x"}}', "scm_source: not a repo"),
        (b'{"slug": "a", "scm_source": {"provider": "github", "url": "https://u:p@h/x"}}', "scm_source.url must not"),
        (
            b'{"slug": "a", "scm_source": {"provider": "github", "url": "https://h/x", "default_branch": "-x"}}',
            "scm_source: not the name of a branch",
        ),
    ],
)
async def test_refused_with_400(world: World, body: bytes, message: str) -> None:
    answer = await world.http.post(APPLY, content=body)
    assert error(answer, 400).startswith(message)
    assert await world.db.fetchval("SELECT count(*) FROM projects") == 0


async def test_after_the_json_value_comes_what_may(world: World) -> None:
    answer = await world.http.post(
        APPLY, content=b'{"slug": "a", "unknown": 1}  garbage', headers={"Content-Type": "text/x"}
    )
    assert answer.status_code == 200


async def test_bad_files(world: World) -> None:
    answer = await post(
        world, {"slug": "a", "files": files(("ci.yaml", "name: x\nstages: [a]\njobs:\n  b: {stage: c}\n"))}
    )
    assert error(answer, 400).startswith("ci.yaml:4:")
    answer = await post(world, {"slug": "a", "files": files(("ci.yaml", "a: [\n"))})
    assert error(answer, 400).startswith("ci.yaml:")
    twice = files(("a.yaml", pipeline("x")), ("b.yaml", pipeline("x")))
    assert 'pipeline "x" defined twice: a.yaml and b.yaml' in error(
        await post(world, {"slug": "a", "files": twice}), 400
    )
    escaped = files(
        ("ci.yaml", 'name: x\nstages: [a]\njobs: {b: {stage: a, script: ["a\\0b"]}}\nmaterials: [{manual: true}]')
    )
    assert "NUL" in error(await post(world, {"slug": "a", "files": escaped}), 400)
    long = files(("ci.yaml", pipeline("n" * 300)))
    assert error(await post(world, {"slug": "a", "files": long}), 400).startswith("ci.yaml: pipeline name longer than")
    reserved = files(("ci.yaml", pipeline("_compliance")))
    assert "reserved" in error(await post(world, {"slug": "a", "files": reserved}), 422)
    assert await world.db.fetchval("SELECT count(*) FROM projects") == 0


async def test_bad_forms(world: World) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    broken = b"--x\r\nnonsense"
    for content, sent in ((broken, headers), (b"", headers), (b"", {"Content-Type": "multipart/form-data"})):
        answer = await world.http.post(APPLY, content=content, headers=sent)
        assert error(answer, 400).startswith(("invalid multipart: ", "slug is required"))
    answer = await world.http.post(APPLY, data={"slug": "a"}, files={"f": ("ci.yaml", b"\xff\xfe")})
    assert error(answer, 400) == "ci.yaml: not UTF-8 at byte 0"
    answer = await world.http.post(APPLY, data={"metadata": "{"}, files={"f": ("ci.yaml", b"")})
    assert error(answer, 400).startswith("invalid multipart: metadata: ")
    answer = await world.http.post(APPLY, data={"slug": "a", "name": "x\0"}, files={"f": ("ci.yaml", PIPELINE)})
    assert error(answer, 400) == "name contains a NUL byte"


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"script": ["x"], "cluster": "c1"}, "`cluster` is not available"),
    ],
)
async def test_what_this_version_cannot_run(world: World, job: dict[str, Any], message: str) -> None:
    text = pipeline("ci", jobs={"j": {"stage": "build", **job}})
    told = error(await post(world, {"slug": "a", "files": files(("ci.yaml", text))}), 422)
    assert told.startswith('ci.yaml: job "j": ')
    assert message in told


async def test_refused_sources(world: World) -> None:
    source = {"provider": "sourceforge", "url": "https://example.org/x"}
    assert "sourceforge" in error(await post(world, {"slug": "a", "files": [], "scm_source": source}), 422)
    source = {"provider": "github", "url": "https://example.org/x", "webhook_secret": "s3cret" * 100}
    told = error(await post(world, {"slug": "a", "scm_source": source}), 400)
    assert "webhook_secret" in told
    assert "s3cret" not in told


async def test_files_from_the_repository(world: World, tmp_path: Path) -> None:
    where = tmp_path / "repo"
    repository(
        where, {".gocdnext/ci.yaml": PIPELINE, ".gocdnext/notes.txt": "x", ".gocdnext/sub/x.yaml": "[", "y.yaml": "["}
    )
    (where / ".gocdnext" / "link.yaml").symlink_to("/etc/passwd")
    commit(where, {})
    scm = {"provider": "manual", "url": f"file://{where}"}
    body = (await post(world, {"slug": "a", "scm_source": scm})).json()
    assert [p["name"] for p in body["pipelines"]] == ["ci"]
    assert "warnings" not in body
    yaml = await world.http.get(f"/api/v1/pipelines/{body['pipelines'][0]['pipeline_id']}/yaml")
    assert yaml.json()["yaml"] == PIPELINE

    body = (await post(world, {"slug": "a", "scm_source": scm, "config_path": "elsewhere"})).json()
    assert body["pipelines"] == []
    assert "elsewhere" in body["warnings"][0]
    # The stored path is the one that counts from now on.
    assert "elsewhere" in (await post(world, {"slug": "a", "scm_source": scm})).json()["warnings"][0]

    commit(where, {"empty/readme.txt": "x", "broken/ci.yaml": "name: [", "bytes/ci.yaml": "x"})
    (where / "bytes" / "ci.yaml").write_bytes(b"\xff")
    commit(where, {})
    body = (await post(world, {"slug": "a", "scm_source": scm, "config_path": "empty"})).json()
    assert "no YAML files" in body["warnings"][0]
    answer = await post(world, {"slug": "a", "scm_source": scm, "config_path": "broken"})
    assert error(answer, 422).startswith("parse remote broken/: ci.yaml:")
    answer = await post(world, {"slug": "a", "scm_source": scm, "config_path": "bytes"})
    assert error(answer, 422) == "parse remote bytes/: ci.yaml: not UTF-8 at byte 0"
    answer = await post(world, {"slug": "a", "scm_source": {**scm, "default_branch": "nope"}})
    assert error(answer, 502).startswith("fetch empty/ from repo: ") or "nope" in answer.text
    answer = await post(world, {"slug": "b", "scm_source": {**scm, "url": f"file://{tmp_path}/nothing"}})
    assert error(answer, 502).startswith("fetch .gocdnext/ from repo: ")


async def test_concurrent_applies_of_one_project(world: World) -> None:
    answers: list[httpx.Response] = []

    async def one(number: int) -> None:
        entries = [{"name": "ci.yaml", "content": pipeline("ci", variables={"N": str(number)})}]
        answers.append(await world.http.post("/api/v1/projects/apply", json={"slug": "a", "files": entries}))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(one, number)
    assert [answer.status_code for answer in answers] == [200] * 8
    assert sum(answer.json()["project_created"] for answer in answers) == 1
    assert (await world.http.get("/api/v1/projects/a")).json()["pipelines"][0]["definition_version"] == 8


async def test_every_problem_of_a_file_is_in_the_answer(world: World) -> None:
    broken = "name: ci\nstages: [build]\njobs:\n  a: {stage: biuld, scirpt: [x]}\n  b: {stage: build, needs: [aa]}\n"
    body = {"slug": "x", "files": [{"name": "ci.yaml", "content": broken}]}
    answer = await world.http.post("/api/v1/projects/apply", json=body)
    assert answer.status_code == 400
    found = answer.json()
    kinds = [(problem["line"], problem["kind"]) for problem in found["errors"]]
    assert kinds == [(4, "job_stage"), (4, "unknown_key"), (5, "needs_unknown")]
    assert found["error"].startswith("ci.yaml:4:")
    assert {problem["file"] for problem in found["errors"]} == {"ci.yaml"}


async def test_the_schema_of_pipeline_files_is_served_to_anybody(guarded: World) -> None:
    answer = await guarded.http.get("/api/v1/schema/pipeline.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/schema+json")
    assert answer.json()["$schema"].startswith("https://json-schema.org/draft/2020-12")
