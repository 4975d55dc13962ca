"""The API's document (OpenAPI 3.1), made from what is registered: rules, their descriptions, roles, audit declarations.

Prose comes from the docstrings of handlers, modules and messages, so there is nothing here about any one route. What
every answer has in common is said once, in `components`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any, get_origin

import msgspec
import orjson
import yaml
from quart import Quart

import gocdnext
from gocdnext.api import wire
from gocdnext.api.respond import JSON
from gocdnext.api.routing import SAFE, Answer, Description, Rule
from gocdnext.auth import roles, tokens
from gocdnext.auth.roles import Role

Schema = dict[str, Any]

ABOUT = """\
The HTTP API of a gocdnext server: projects, pipelines, runs, jobs, agents and what belongs to them.

- Times are RFC 3339 in UTC, ids are UUIDs (also without dashes, in braces, or as `urn:uuid:`).
- A key that has nothing to say is absent; it is never null unless the message says so. Keys that a client does not know
  are to be ignored: more may come.
- Errors are `{"error": "..."}` with a status of 400 or more.
- Lists take `limit` and `offset`. A number over the greatest value of a parameter counts as that value.
- Every answer has an `X-Request-Id`; a sane one in the request is taken over. Answers to GET that have an `ETag` can be asked
  for with `If-None-Match` and are 304 when nothing has changed. Bodies over 1 kB are compressed when the client allows it.
- Each operation says whom it lets in (`x-gocdnext-role`): a viewer, a maintainer or an admin; each of them may do what those
  before may. While authentication is off, everybody may do everything.
"""

PATH: Mapping[str, Schema] = {
    "slug": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[^/\u0000-\u001f\u007f-\u009f]+$"},
    "token": {"type": "string", "minLength": 1, "pattern": r"^[A-Za-z0-9_.-]+$"},
    "": {"type": "string", "minLength": 1, "pattern": r"^[^/\u0000]+$"},
}
"""What variables of paths may be, by name; the empty name is for those that are not here. Those that end in `_id` are ids."""

_BY_PATH = {
    "slug": "The slug of a project.",
    "name": "A name.",
    "token": "The token of a signed link.",
}
_FAILURES = {
    400: "The request cannot be understood; the message says what is wrong with it.",
    401: "Nobody is signed in, or the credential is good for nothing (any more).",
    403: "The caller may not do this.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "The thing is in a state that does not allow this.",
    413: "The body is over a limit.",
    416: "The range that is asked for is behind the end.",
    422: "The request is understood and cannot be done.",
    429: "Too many tries; try again later.",
    500: "Something went wrong here; the server's log has it under the request's id.",
    502: "Another system did not answer as it should.",
    503: "Not possible now, perhaps later.",
    507: "There is no room left to store what was sent.",
}
_HEADERS = {
    "X-Request-Id": "The id under which the server's log speaks of this request.",
    "ETag": "For `If-None-Match`: the answer is 304, without a body, while this is still so.",
    "X-Total-Count": "How many entries there are in all.",
    "Retry-After": "Seconds to wait.",
    "WWW-Authenticate": "`Bearer`.",
}
_REFERENCE = re.compile(r" \((?:contract-|spec-)?[a-z]*-?[a-z]* ?\d+(?:\.\d+)*(?:(?:, | to )\d+(?:\.\d+)*)*\)")
"""What docstrings say to their readers about where a rule comes from."""


def document(app: Quart) -> dict[str, Any]:
    """The document of everything that is registered at this application, as JSON has it: no tuples, nothing shared."""
    made: dict[str, Any] = orjson.loads(orjson.dumps(_Document(app).made()))
    return made


def encoded(made: dict[str, Any]) -> bytes:
    """A document as JSON."""
    return orjson.dumps(made)


def as_yaml(made: dict[str, Any]) -> bytes:
    """A document as YAML, without anchors."""
    text: str = yaml.dump(made, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)
    return text.encode()


def refusals(rule: Rule, method: str, described: Description) -> frozenset[int]:
    """The statuses of the refusals that a route may give: those of its kind and its own."""
    found = {400, 500, 503} | described.fails
    public = roles.minimum(method, rule.rule) is Role.PUBLIC
    if not public:
        found |= {401, 403}
    elif method not in SAFE:
        found |= {401, 403, 429}  # credentials come in the body
    if rule.arguments:
        found.add(404)
    if described.takes is not None or described.forms:
        found |= {408, 413}
    return frozenset(found)


def _says_more(described: Description, status: int) -> bool:
    """Whether the route describes a refusal itself, because it says more than an error does."""
    kinds = [answer.gives for answer in described.answers if answer.status == status]
    return all(isinstance(kind, type) and issubclass(kind, wire.Error) for kind in kinds)


def tagged(method: str, described: Description) -> bool:
    """Whether the good answers that are JSON have a tag and can be 304 (`conditional`)."""
    good = (answer for answer in described.answers if answer.media == JSON and answer.status == 200)
    return method == "GET" and described.stored and any(good)


class _Document:
    """One document in the making."""

    def __init__(self, app: Quart) -> None:
        self._app = app
        rules = [rule for rule in app.url_map.iter_rules() if isinstance(rule, Rule) and rule.described is not None]
        self._rules = sorted(rules, key=lambda rule: rule.rule)

    def made(self) -> dict[str, Any]:
        paths: dict[str, dict[str, Any]] = {}
        for rule in self._rules:
            assert rule.described is not None
            for method in sorted(rule.methods or ()):
                operations = paths.setdefault(template(rule.rule), {})
                operations[method.lower()] = self._operation(rule, method, rule.described)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "gocdnext",
                "version": gocdnext.__version__,
                "description": ABOUT,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": list(self._tags()),
            "paths": paths,
            "components": {
                "schemas": self._schemas[1],
                "responses": dict(self._responses()),
                "headers": {name: _header(said) for name, said in _HEADERS.items()},
                "securitySchemes": {
                    "bearer": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "A token of a person or of a service account.",
                    },
                    "session": {
                        "type": "apiKey",
                        "in": "cookie",
                        "name": tokens.COOKIE,
                        "description": "The session of a browser. What changes something must come from a page of this server.",
                    },
                },
            },
        }

    def _operation(self, rule: Rule, method: str, described: Description) -> dict[str, Any]:
        summary, _, rest = prose(self._app.view_functions[rule.endpoint].__doc__).partition("\n\n")
        operation: dict[str, Any] = {
            "operationId": rule.endpoint,
            "summary": _one_line(summary).removesuffix("."),
            "tags": [rule.endpoint.partition(".")[0]],
        }
        if rest:
            operation["description"] = _one_line(rest)
        parameters = [*_path(rule, described), *_query(described), *_read(described)]
        if parameters:
            operation["parameters"] = parameters
        if described.takes is not None or described.forms:
            operation["requestBody"] = self._body(described)
        operation["responses"] = self._answers(rule, method, described)
        minimum = roles.minimum(method, rule.rule)
        operation["security"] = [] if minimum is Role.PUBLIC else [{"bearer": []}, {"session": []}]
        operation["x-gocdnext-role"] = minimum.name.lower()
        if rule.audited is not None:
            operation["x-gocdnext-audit"] = rule.audited.action
        return operation

    def _body(self, described: Description) -> dict[str, Any]:
        content = {}
        if described.takes is not None:
            content[JSON] = self._media(described.takes)
        for media, kind in described.forms.items():
            content[media] = self._media(kind)
        if described.sends is not None:
            next(iter(content.values()))["example"] = described.sends
        return {"required": not described.optional, "content": content}

    def _answers(self, rule: Rule, method: str, described: Description) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for answer in described.answers:
            response = found.setdefault(str(answer.status), _empty(answer, described))
            if answer.gives is not None:
                media = self._media(answer.gives)
                if answer.media == described.media and described.example is not None:
                    media["example"] = described.example
                response.setdefault("content", {})[answer.media] = media
            if get_origin(answer.gives) is list:
                response["headers"]["X-Total-Count"] = _ref("headers", "X-Total-Count")
            if answer.status == 200 and tagged(method, described):
                response["headers"]["ETag"] = _ref("headers", "ETag")
        if tagged(method, described):
            found["304"] = _ref("responses", "NotModified")
        for status in sorted(refusals(rule, method, described)):
            if str(status) not in found:
                found[str(status)] = _ref("responses", _name(status))
            elif not _says_more(described, status):
                raise ValueError(f"{rule.endpoint}: {status} is a good answer and a refusal")
        return dict(sorted(found.items()))

    def _media(self, kind: Any) -> dict[str, Any]:
        return {} if kind is bytes else {"schema": self._schemas[0][_key(kind)]}

    @cached_property
    def _schemas(self) -> tuple[dict[str, Schema], dict[str, Schema]]:
        """The schema of every type that is taken or given, and of the messages that these refer to."""
        kinds = {_key(kind): kind for kind in self._kinds() if kind is not None and kind is not bytes}
        made, components = msgspec.json.schema_components(kinds.values(), ref_template="#/components/schemas/{name}")
        bodies = {_key(kind) for kind in self._taken()}
        taken = _reached([schema for key, schema in zip(kinds, made, strict=True) if key in bodies], components)
        for name, schema in components.items():
            if "description" in schema:
                schema["description"] = _one_line(prose(schema["description"]))
            if name not in taken:
                _never_null(schema)
        return dict(zip(kinds, made, strict=True)), dict(sorted(components.items()))

    def _kinds(self) -> Iterator[Any]:
        yield wire.Error
        yield from self._taken()
        for rule in self._rules:
            assert rule.described is not None
            yield from (answer.gives for answer in rule.described.answers)

    def _taken(self) -> Iterator[Any]:
        for rule in self._rules:
            assert rule.described is not None
            yield rule.described.takes
            yield from rule.described.forms.values()

    def _responses(self) -> Iterator[tuple[str, Schema]]:
        yield (
            "NotModified",
            {
                "description": "The client has it already.",
                "headers": {name: _ref("headers", name) for name in ("X-Request-Id", "ETag")},
            },
        )
        for status, said in _FAILURES.items():
            headers = ["X-Request-Id"]
            headers += ["Retry-After"] if status == 503 else ["WWW-Authenticate"] if status == 401 else []
            yield (
                _name(status),
                {
                    "description": said,
                    "headers": {name: _ref("headers", name) for name in headers},
                    "content": {JSON: self._media(wire.Error)},
                },
            )

    def _tags(self) -> Iterator[dict[str, str]]:
        for name in sorted({rule.endpoint.partition(".")[0] for rule in self._rules}):
            said = prose(sys.modules[self._app.blueprints[name].import_name].__doc__)
            yield {"name": name, "description": _one_line(said.partition("\n\n")[0])}


def template(rule: str) -> str:
    """The path of a rule as OpenAPI writes it."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def prose(text: str | None) -> str:
    """A docstring without indentation and without references to chapters of the contract."""
    lines = (text or "").strip().split("\n")
    return _REFERENCE.sub("", "\n".join(line.strip() for line in lines))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _path(rule: Rule, described: Description) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"<(?:\w+:)?(\w+)>", rule.rule):
        schema: Schema
        if name in described.path:
            schema = msgspec.json.schema(described.path[name])
        elif name.endswith("_id"):
            schema = {"type": "string", "format": "uuid"}
        else:
            schema = dict(PATH.get(name, PATH[""]))
        said = _BY_PATH.get(name) or f"The id of a {name.removesuffix('_id').replace('_', ' ')}."
        yield {"name": name, "in": "path", "required": True, "description": said, "schema": schema}


def _query(described: Description) -> Iterator[dict[str, Any]]:
    if described.asks is None:
        return
    for entry in msgspec.structs.fields(described.asks):
        schema = _without_null(msgspec.json.schema(entry.type))
        said = schema.pop("description", "")
        if entry.default not in (None, msgspec.NODEFAULT):
            schema["default"] = entry.default
        parameter: dict[str, Any] = {"name": entry.encode_name, "in": "query", "required": entry.required}
        if said:
            parameter["description"] = said
        yield {**parameter, "schema": schema}


def _read(described: Description) -> Iterator[dict[str, Any]]:
    for name, said in described.reads.items():
        yield {"name": name, "in": "header", "description": said, "schema": {"type": "string"}}


def _without_null(schema: Schema) -> Schema:
    """The schema of a parameter that may be absent: nobody can say null in a query string."""
    kinds = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    return {**{key: value for key, value in schema.items() if key != "anyOf"}, **kinds[0]} if kinds else dict(schema)


def _reached(schemas: Iterable[Schema], components: Mapping[str, Schema]) -> set[str]:
    """The names of the messages that these schemas refer to, directly or not."""
    names: set[str] = set()
    texts = [str(schema) for schema in schemas]
    while texts:
        for name in set(re.findall(r"#/components/schemas/([\w.-]+)", texts.pop())) - names:
            names.add(name)
            texts.append(str(components[name]))
    return names


def _never_null(schema: Schema) -> None:
    """Messages that are only sent leave out what has nothing to say (`omit_defaults`): no such key is ever null."""
    required = schema.get("required", ())
    for name, shape in schema.get("properties", {}).items():
        if name not in required and shape.get("default", ...) is None:
            plain = _without_null(shape)
            del plain["default"]
            schema["properties"][name] = plain


def _empty(answer: Answer, described: Description) -> dict[str, Any]:
    said = {name: _header(text) for name, text in described.headers.items()}
    phrase = HTTPStatus(answer.status).phrase
    return {"description": f"{phrase}.", "headers": {"X-Request-Id": _ref("headers", "X-Request-Id"), **said}}


def _header(said: str) -> dict[str, Any]:
    return {"description": said, "schema": {"type": "string"}}


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")


def _key(kind: Any) -> str:
    return repr(kind)
