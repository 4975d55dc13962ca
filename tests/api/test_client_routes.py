"""The client of the command line asks for nothing that the API's document does not have: route, query and body of each call."""

from __future__ import annotations

import ast
import collections.abc
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import orjson
import pytest

from gocdnext.api import openapi
from gocdnext.client import Client, messages
from tests import write_messages
from tests.api.conformance import Document, _document

ID = "2f1f7f0e-52d5-4a0c-9f5e-0d8c0ab2d3a1"
ROOT = Path(__file__).parents[2]
SERVER = "http://127.0.0.1:1"
BY_NAME: dict[str, object] = {
    "base_url": SERVER,
    "slug": "billing",
    "decision": "approve",
    "url": f"{SERVER}/artifacts/a.b.c",
    "role": "viewer",
    "delivery_id": 7,
    "cron": {"name": "nightly"},
    "app": {"name": "acme", "app_id": 7},
    "description": {"enabled": True},
}
"""What is given to parameters whose type does not say it all."""
MAPPINGS = (collections.abc.Mapping, dict)
ANY_ROUTE = frozenset({"call"})
"""The one way out for calls that have no method of their own: the caller says the route."""
STREAMS = frozenset({"download", "follow", "log_text"})
"""Calls that give bytes, lines or events one after the other."""


def methods() -> list[str]:
    return [
        name
        for name, member in inspect.getmembers(Client, inspect.isfunction)
        if not name.startswith("_") and name not in ANY_ROUTE
    ]


def filled(method: Any) -> dict[str, object]:
    """Something for every parameter of a method."""
    hints = get_type_hints(method, localns=vars(messages))
    found: dict[str, object] = {}
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        hint = hints[parameter.name]
        kinds = {hint, *typing.get_args(hint)} - {type(None)}
        if parameter.name in BY_NAME:
            found[parameter.name] = BY_NAME[parameter.name]
        elif typing.get_origin(hint) in MAPPINGS:
            found[parameter.name] = {"slug": "billing"}
        elif str in kinds:
            found[parameter.name] = ID if parameter.name.endswith("_id") else "production"
        elif bool in kinds:
            found[parameter.name] = True
        elif int in kinds:
            found[parameter.name] = 7
        elif parameter.default is parameter.empty:
            raise AssertionError(f"say in BY_NAME what {parameter.name} of {method.__name__} is to be")
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """The requests that clients made; nobody is there to be asked."""
    made: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        made.append(request)
        if "/logs/stream" in request.url.path:
            return httpx.Response(200, content=b'event: end\ndata: {"status":"success"}\n\n')
        return httpx.Response(200, content=b"")

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(httpx.Client, "_init_transport", lambda *_, **__: transport)
    return made


def described(document: Document, request: httpx.Request) -> tuple[str, dict[str, Any]]:
    """The place and the operation of a request in the document."""
    path = request.url.raw_path.partition(b"?")[0].decode()
    for template, operations in sorted(document.value["paths"].items(), key=lambda entry: entry[0].count("{")):
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path) and request.method.lower() in operations:
            place = f"#/paths/{template.replace('/', '~1')}/{request.method.lower()}"
            return place, operations[request.method.lower()]
    raise AssertionError(f"{request.method} {path} is not in the document")


def complaints(document: Document, request: httpx.Request) -> Iterator[str]:
    place, operation = described(document, request)
    names = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
    for name in request.url.params:
        if name not in names:
            yield f"{name} is no parameter of {operation['operationId']}"
    body = operation.get("requestBody")
    if request.content:
        if body is None:
            yield f"{operation['operationId']} takes no body"
            return
        media = request.headers["Content-Type"].replace("/", "~1")
        validator = document.validator(f"{place}/requestBody/content/{media}/schema")
        yield from (error.message for error in validator.iter_errors(orjson.loads(request.content)))
    elif body is not None and body["required"]:
        yield f"{operation['operationId']} needs a body"


@pytest.mark.parametrize("name", methods())
def test_each_call_is_one_of_the_document(name: str, asked: list[httpx.Request]) -> None:
    method = getattr(Client, name)
    with Client(SERVER, "token") as client:
        result = method(client, **filled(method))
        if inspect.isgenerator(result):
            list(result)
    assert asked
    for request in asked:
        assert list(complaints(_document(), request)) == [], name


def test_what_is_not_in_the_document_is_noticed() -> None:
    document = _document()
    assert openapi.template("/a/<b>") == "/a/{b}"
    with pytest.raises(AssertionError, match="GET /api/v1/nothing is not in the document"):
        described(document, httpx.Request("GET", f"{SERVER}/api/v1/nothing"))
    assert list(complaints(document, httpx.Request("GET", f"{SERVER}/api/v1/runs?more=1")))
    assert list(complaints(document, httpx.Request("POST", f"{SERVER}/api/v1/projects/apply")))
    assert list(complaints(document, httpx.Request("POST", f"{SERVER}/api/v1/runs/{ID}/cancel", json={"a": 1})))
    assert list(complaints(document, httpx.Request("POST", f"{SERVER}/api/v1/runs/{ID}/rerun", json={"by": "me"})))


def test_the_types_of_answers_are_those_of_the_document() -> None:
    assert write_messages.FILE.read_text() == write_messages.text(), "run `python -m tests.write_messages`"


def test_the_program_does_without_the_types_of_answers() -> None:
    for path in (ROOT / "gocdnext").rglob("*.py"):
        if "gocdnext.client.messages" in (source := path.read_text()):
            tree = ast.parse(source)
            guarded = {id(node) for block in tree.body if unchecked(block) for node in ast.walk(block)}
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module == "gocdnext.client.messages":
                    assert id(node) in guarded, f"{path}:{node.lineno} imports what make_zipapp leaves out"


def unchecked(node: ast.AST) -> bool:
    """Whether only type checkers read a statement."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@pytest.mark.parametrize("name", sorted(set(methods()) - STREAMS))
def test_each_call_returns_what_its_route_answers(name: str, asked: list[httpx.Request]) -> None:
    method = getattr(Client, name)
    with Client(SERVER, "token") as client:
        method(client, **filled(method))
    hint = get_type_hints(method, localns=vars(messages))["return"]
    if hint is not type(None):
        assert returned(hint) in answers(described(_document(), asked[-1])[1]), name


def returned(hint: Any) -> str:
    """A return type as `answers` writes it."""
    if typing.get_origin(hint) is list:
        return f"list of {returned(typing.get_args(hint)[0])}"
    return str(hint.__name__)


def answers(operation: dict[str, Any]) -> set[str]:
    """The messages of the good answers of an operation."""
    found = set()
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
            prefix = "list of " if schema.get("type") == "array" else ""
            if name := schema.get("items", schema).get("$ref", ""):
                found.add(prefix + name.rpartition("/")[2])
    return found


@pytest.mark.parametrize("room", ["cli", "client"])
def test_addresses_that_are_written_out_begin_as_routes_do(room: str) -> None:
    known = [re.sub(r"\{\w+\}", "*", template) for template in _document().value["paths"]]
    seen = 0
    for path in (ROOT / "gocdnext" / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            text = written(node)
            if text.startswith(("/api/", "/auth/")):
                seen += 1
                pattern = re.escape(text).replace(r"\*", "[^/]+")
                assert any(re.match(pattern, place) for place in known), f"{path.name}:{node.lineno}: {text}"  # type: ignore[attr-defined]
    assert seen >= 4


def written(node: ast.AST) -> str:
    """The text of a string, with a star for each part that is put in; empty for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(written(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "*"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
