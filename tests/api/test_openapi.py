"""The API's document: valid by another's rules, complete, and what is served is what was made (issue 7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from quart import Blueprint, Quart, Response

from gocdnext.api import openapi, people, query
from gocdnext.api.app import BLUEPRINTS, Application
from gocdnext.api.routing import Answer, Description, route
from gocdnext.auth import roles
from gocdnext.errors import InvalidError
from tests.api.conformance import Document
from tests.api.world import World

RUN = "2f1f7f0e-52d5-4a0c-9f5e-0d8c0ab2d3a1"


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    app = Application("test", static_folder=None)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return openapi.document(app)


def operations(made: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_it_is_valid(made: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(made).validate()  # type: ignore[arg-type]
    for schema in made["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_route_is_in_it_with_its_role(made: dict[str, Any]) -> None:
    found = {f"{method} {path}": operation["x-gocdnext-role"] for method, path, operation in operations(made)}
    wanted = {openapi.template(place): minimum.name.lower() for place, minimum in roles.MINIMUM.items()}
    assert found == wanted
    for method, path, operation in operations(made):
        public = operation["x-gocdnext-role"] == "public"
        assert (operation["security"] == []) is public, path
        assert public or {"401", "403"} <= set(operation["responses"]), path
        assert operation["summary"], (method, path)
        names = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        assert names == {part[1:-1] for part in path.split("/") if part.startswith("{")}
    ids = [operation["operationId"] for _, _, operation in operations(made)]
    assert len(ids) == len(set(ids))


def test_what_belongs_to_the_contract_is_said(made: dict[str, Any]) -> None:
    artifacts = made["paths"]["/api/v1/runs/{run_id}/artifacts"]["get"]["responses"]
    assert {"X-Total-Count", "ETag", "X-Request-Id"} <= set(artifacts["200"]["headers"])
    assert artifacts["304"] == {"$ref": "#/components/responses/NotModified"}
    responses = made["components"]["responses"]
    assert "Retry-After" in responses["ServiceUnavailable"]["headers"]
    assert "WWW-Authenticate" in responses["Unauthorized"]["headers"]
    assert responses["Conflict"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
    stream = made["paths"]["/api/v1/runs/{run_id}/logs/stream"]["get"]
    assert set(stream["responses"]["200"]["content"]) == {"text/event-stream"}
    assert ("Last-Event-ID", "header") in {(one["name"], one["in"]) for one in stream["parameters"]}
    apply = made["paths"]["/api/v1/projects/apply"]["post"]
    assert set(apply["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert apply["requestBody"]["required"]
    assert apply["x-gocdnext-audit"] == "project.apply"
    assert not made["paths"]["/api/v1/runs/{run_id}/rerun"]["post"]["requestBody"]["required"]
    ids = {one["name"]: one["schema"] for one in stream["parameters"]}
    assert ids["run_id"]["format"] == "uuid"
    assert set(made["components"]["securitySchemes"]) == {"bearer", "session"}
    yaml_route = made["paths"]["/api/v1/pipelines/{pipeline_id}/yaml"]["get"]["responses"]
    assert "304" not in yaml_route


def test_examples_are_what_they_are_examples_of(made: dict[str, Any]) -> None:
    seen = 0
    document = Document(made)
    for method, path, operation in operations(made):
        bodies = [(operation.get("requestBody", {}), "requestBody")]
        bodies += [(one, f"responses/{status}") for status, one in operation["responses"].items()]
        for described, place in bodies:
            for media, content in described.get("content", {}).items():
                if "example" in content:
                    seen += 1
                    at = (
                        f"#/paths/{path.replace('/', '~1')}/{method.lower()}/{place}/content/{media.replace('/', '~1')}"
                    )
                    document.validator(f"{at}/schema").validate(content["example"])
    assert seen >= 5


def test_nothing_is_said_of_how_we_came_to_it(made: dict[str, Any]) -> None:
    text = yaml.safe_dump(made)
    for word in ("contract-", "the reference", "ours", "(3.", "(2.1)"):
        assert word not in text


async def test_it_is_served(guarded: World) -> None:
    as_json = await guarded.http.get("/api/v1/openapi.json")
    as_yaml = await guarded.http.get("/api/v1/openapi.yaml")
    assert as_json.headers["content-type"] == "application/json"
    assert as_yaml.headers["content-type"] == "application/yaml; charset=utf-8"
    for answer in (as_json, as_yaml):
        assert answer.headers["cache-control"] == "public, max-age=300"
    assert yaml.safe_load(as_yaml.text) == as_json.json()
    assert "&id0" not in as_yaml.text
    again = await guarded.http.get("/api/v1/openapi.json", headers={"If-None-Match": as_json.headers["etag"]})
    assert again.status_code == 304


async def test_a_route_that_is_not_described_cannot_be_registered() -> None:
    async def handler() -> Response:
        return Response(b"")

    with pytest.raises(LookupError, match="GET /healthz does not say what it takes and gives"):
        route(Blueprint("b", __name__), "GET", "/healthz")(handler)
    with pytest.raises(LookupError, match="say who may call it"):
        route(Blueprint("b", __name__), "GET", "/api/v1/forgotten", described=Description())(handler)


def test_an_answer_that_is_not_as_described_is_noticed(made: dict[str, Any]) -> None:
    document = Document(made)

    def complaint(status: int, body: bytes | None, content_type: str = "application/json") -> str:
        return document.complaint("GET", "/api/v1/projects/<slug>/vsm", status, content_type, body)

    good = b'{"project_id":"%s","project_slug":"a","project_name":"a","nodes":[],"edges":[],' % RUN.encode()
    assert complaint(200, good + b'"generated_at":"2026-04-28T13:00:00Z"}') == ""
    assert complaint(404, b'{"error":"no"}') == ""
    assert "generated_at" in complaint(200, good + b'"generated_at":"yesterday"}')
    assert "required" in complaint(200, good[:-1] + b"}")
    assert "'more' was unexpected" in complaint(200, good + b'"generated_at":"2026-04-28T13:00:00Z","more":1}')
    assert "not described" in complaint(418, b"{}")
    assert "not described" in complaint(200, b"<html>", "text/html")
    assert "required" in complaint(404, b"{}")
    assert "no body" in document.complaint("POST", "/api/v1/runs/<run_id>/cancel", 204, "application/json", b"{}")


def test_a_status_cannot_be_good_and_bad() -> None:
    app = Application("test", static_folder=None)
    blueprint = Blueprint("health", "gocdnext.api.health")

    @route(blueprint, "GET", "/healthz", described=Description(gives=str, also=(Answer(status=400),)))
    async def both() -> Response:
        """Both."""
        return Response(b"")

    app.register_blueprint(blueprint)
    with pytest.raises(ValueError, match="400 is a good answer and a refusal"):
        openapi.document(app)


class Asked(msgspec.Struct, kw_only=True):
    name: str
    limit: people.Limit | None = None
    offset: query.Offset = 0
    since: list[str] = []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name=a", Asked(name="a")),
        ("name=a&limit=7&offset=3&since=x&since=&since=y", Asked(name="a", limit=7, offset=3, since=["x", "y"])),
        ("name=a&limit=&offset=", Asked(name="a")),
        ("name=a&limit=501", Asked(name="a", limit=500)),
        ("name=a&limit=0", Asked(name="a")),
        ("name=a&limit=x", Asked(name="a")),
        ("name=a&offset=9223372036854775807", Asked(name="a", offset=2**63 - 1)),
        ("name=a&unknown=1", Asked(name="a")),
        ("name=a&offset=-1", "invalid 'offset' query"),
        ("name=a&offset=1.0", "invalid 'offset' query"),
        ("name=a&offset=9223372036854775808", "invalid 'offset' query"),
        ("limit=7", "`name` query param is required"),
        ("name=", "`name` query param is required"),
    ],
)
async def test_a_query_string_is_read_as_it_is_described(text: str, expected: Asked | str) -> None:
    async with Quart("test").test_request_context(f"/?{text}"):
        if isinstance(expected, str):
            with pytest.raises(InvalidError, match=expected):
                query.asked(Asked)
        else:
            assert query.asked(Asked) == expected


def test_what_nobody_can_say_in_a_query_string() -> None:
    class Wrong(msgspec.Struct):
        when: float = 0.0

    with pytest.raises(TypeError, match="when: a parameter is"):
        query._plan(Wrong)
