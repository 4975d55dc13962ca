"""Every answer of an application under test is held against the API's document, more strictly than clients should: an
answer that is not described, and a key that its message does not have, fail the test in which it happens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from quart import Response, request
from quart.wrappers.response import DataBody
from quart_trio import QuartTrio
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from werkzeug.http import parse_options_header

from gocdnext.api import openapi

_HERE = "urn:document"
_ERROR = "#/components/responses/BadRequest"
MOST = 5
"""Findings that a failure tells."""


class Document:
    """The document of an application, asked about answers."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.value = _closed(value)
        resource = Resource.from_contents(self.value, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(_HERE, resource)
        self.validator = lru_cache(maxsize=None)(self._validator)

    def complaint(self, method: str, rule: str | None, status: int, content_type: str, body: bytes | None) -> str:
        """What is wrong with an answer; empty when nothing is. A body of None is one that is sent piece by piece."""
        if rule is None:
            place = _ERROR if status >= 400 else ""
        else:
            place = f"#/paths/{_escaped(openapi.template(rule))}/{method.lower()}/responses/{status}"
        described = self._at(place) if place else {}
        if described is None:
            return f"the status {status} is not described"
        if "$ref" in described:
            place = described["$ref"]
            described = self._at(place)
        content = described.get("content", {})
        if not content:
            return "there is to be no body" if body is None or body or content_type else ""
        media = next((name for name in content if _bare(name) == _bare(content_type)), None)
        if media is None:
            return f"the content type {content_type!r} is not described for {status}, only {list(content)}"
        if not _bare(media).endswith("json") or body is None:
            return ""
        errors = sorted(
            self.validator(f"{place}/content/{_escaped(media)}/schema").iter_errors(orjson.loads(body)),
            key=lambda error: error.json_path,
        )
        return "; ".join(f"{error.json_path}: {error.message[:300]}" for error in errors[:MOST])

    def _validator(self, place: str) -> Draft202012Validator:
        return Draft202012Validator(
            {"$ref": f"{_HERE}{place}"},
            registry=self._registry,
            format_checker=Draft202012Validator.FORMAT_CHECKER,
        )

    def _at(self, place: str) -> Any:
        found: Any = self.value
        for step in place.removeprefix("#/").split("/"):
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if found is not None else None
        return found


@contextlib.contextmanager
def conforming(app: QuartTrio) -> Iterator[None]:
    """Watches the answers of an application that is about to be served. Raises AssertionError at the end."""
    document = _document()
    complaints: list[str] = []

    async def watch(response: Response) -> Response:
        if request.method == "OPTIONS":
            return response
        body = response.response.data if isinstance(response.response, DataBody) else None
        rule = None if request.url_rule is None else request.url_rule.rule
        complaint = document.complaint(
            request.method, rule, response.status_code, response.headers.get("Content-Type", ""), body
        )
        if complaint:
            complaints.append(f"{request.method} {request.path} ({response.status_code}): {complaint}")
        return response

    # Run before those of the application: what they do to every answer (304, gzip) is not the routes'.
    app.after_request(watch)
    yield
    assert not complaints, "answers that are not as described:\n" + "\n".join(complaints[:MOST])


@lru_cache(maxsize=1)
def _document() -> Document:
    return Document(described())


def described() -> dict[str, Any]:
    """The API's document, made without a server."""
    from gocdnext.api.app import BLUEPRINTS, Application

    app = Application("described", static_folder=None)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return openapi.document(app)


def _closed(schema: Any) -> Any:
    """A copy in which objects have no other keys than those that are named."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if closed.get("type") == "object" and isinstance(closed.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


def _bare(content_type: str) -> str:
    """A content type without its parameters."""
    return parse_options_header(content_type)[0]


def _escaped(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1")
