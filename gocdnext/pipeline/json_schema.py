"""The JSON schema of pipeline files (draft 2020-12), for editors (spec-pipelines 1.3).

Shapes come from the readers of `language`, descriptions and choices from `key_words`. Everything that the parser takes
passes, seen with the core types of YAML 1.2 (an editor's view: `yes` is text, `12` a number). What needs more than one
key to decide (stages that exist, circles) is left to `validate`. Pure.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import msgspec

from gocdnext.pipeline import scalars
from gocdnext.pipeline.key_words import WORDS, Words
from gocdnext.pipeline.language import MAX_JOBS, PIPELINE, TEXT, TEXTS, Audience, OutputEntry
from gocdnext.pipeline.schema import Boolean, Fields, Integer, ListOf, MapOf, Number, Raw, Reader, Text

DRAFT = "https://json-schema.org/draft/2020-12/schema"
IDENTIFIER = "urn:gocdnext:pipeline"
_JOB = "jobs.*"

# Numbers that YAML 1.2 takes for text and the reader for numbers: `1_000`, `0b11`.
_ODD_NUMBER = r"^[-+]?(0[bB][01_]+|0[xX][0-9a-fA-F_]*_[0-9a-fA-F_]*|[0-9][0-9oO.]*_[0-9_.]*)$"

Schema = dict[str, Any]


@functools.cache
def _document() -> Schema:
    return {
        "$schema": DRAFT,
        "$id": IDENTIFIER,
        "title": "gocdnext pipeline",
        **_Shapes(checked=True).of(PIPELINE, ""),
        "$defs": {
            "job": _job(),
            "template": _Shapes(checked=False).of(_job_reader(), _JOB),
        },
    }


def pipeline_schema() -> Schema:
    """The schema as a JSON value; the same object each time, not to be changed."""
    return _document()


@functools.cache
def encoded() -> bytes:
    """The schema as indented JSON: what `gocdnext schema` prints and `/api/v1/schema/pipeline.json` answers."""
    return msgspec.json.format(msgspec.json.encode(_document()), indent=2) + b"\n"


def paths() -> Iterator[str]:
    """The path of every key that the readers know, in the form of `key_words`."""
    yield ""
    yield from _paths(PIPELINE, "")


def _job_reader() -> Fields:
    jobs = PIPELINE.fields["jobs"]
    assert isinstance(jobs, MapOf)
    assert isinstance(jobs.value, Fields)
    return jobs.value


def _job() -> Schema:
    """A job that runs: it has a stage, of its own or inherited."""
    schema = _Shapes(checked=True).of(_job_reader(), _JOB)
    schema["type"] = "object"
    schema["anyOf"] = [{"required": ["stage"]}, {"required": ["extends"]}]
    return schema


class _Shapes:
    """Schemas of readers. Templates are not `checked`: the parser looks at their shape only (spec-pipelines 3)."""

    def __init__(self, *, checked: bool) -> None:
        self._checked = checked

    def of(self, reader: Reader, path: str) -> Schema:
        words = WORDS[path]
        schema: Schema = {"description": words.says}
        if words.deprecated:
            schema["deprecated"] = True
        schema |= self._shape(reader, path, words)
        if words.examples:
            schema["examples"] = list(words.examples)
        return schema

    def _shape(self, reader: Reader, path: str, words: Words) -> Schema:
        if isinstance(reader, Text):
            return self._text(words)
        if isinstance(reader, Boolean):
            return {"anyOf": [{"type": ["boolean", "null"]}, {"enum": _words_for_booleans()}]}
        if isinstance(reader, Integer | Number):
            return self._number(words)
        if isinstance(reader, ListOf):
            return self._list(reader, path, words)
        if isinstance(reader, MapOf):
            return self._map(reader, path, words)
        if isinstance(reader, Fields):
            return self._fields(reader, path, words)
        if isinstance(reader, OutputEntry):
            whole = self._fields(reader.fields, path, words)
            return {"anyOf": [self._text(words), {**whole, "type": "object"}]}
        if isinstance(reader, Audience):
            return {"anyOf": [self._text(words), self._list(TEXTS, path, words)]}
        if isinstance(reader, Raw):
            # Only `environment`, whose own check wants a text (3.16).
            return {"type": "string", "pattern": words.pattern} if self._checked else {}
        raise TypeError(f"no schema is known for {type(reader).__name__} at {path}")

    def _text(self, words: Words) -> Schema:
        """Any scalar: its spelling is the text. Editors see numbers and booleans where the reader sees text."""
        if words.choices and self._checked:
            return _choice(words)
        schema: Schema = {"type": ["string", "number", "boolean", "null"]}
        if words.pattern and self._checked:
            schema["pattern"] = words.pattern
        if words.choices:
            schema["examples"] = [choice for choice in words.choices if choice]
        return schema

    def _number(self, words: Words) -> Schema:
        schema: Schema = {"type": ["number", "string", "null"], "pattern": _ODD_NUMBER}
        if self._checked and words.least is not None:
            schema["minimum"] = words.least
        if self._checked and words.highest is not None:
            schema["maximum"] = words.highest
        return schema

    def _list(self, reader: ListOf, path: str, words: Words) -> Schema:
        items = self.of(reader.item, f"{path}[]")
        if isinstance(reader.item, Fields | MapOf):
            # A null element disappears, except where it counts as an empty one.
            items["type"] = ["object"] if self._checked and reader.empty is not None else ["object", "null"]
        schema: Schema = {"type": ["array", "null"], "items": items}
        if self._checked and words.filled:
            schema |= {"type": "array", "minItems": 1}
        return schema

    def _map(self, reader: MapOf, path: str, words: Words) -> Schema:
        if path == "jobs":
            return {
                "type": ["object", "null"],
                "maxProperties": MAX_JOBS,
                "patternProperties": {r"^\.": {"$ref": "#/$defs/template"}, r"^(?!\.)": {"$ref": "#/$defs/job"}},
                "additionalProperties": False,
            }
        schema: Schema = {
            "type": ["object", "null"],
            "additionalProperties": self.of(reader.value, f"{path}.*"),
        }
        if self._checked and words.names:
            schema["propertyNames"] = {"pattern": words.names}
        return schema | self._size(words)

    def _fields(self, reader: Fields, path: str, words: Words) -> Schema:
        schema: Schema = {
            "type": ["object", "null"],
            "properties": {key: self.of(value, _below(path, key)) for key, value in reader.fields.items()},
            "additionalProperties": False,
        }
        if self._checked and words.required:
            schema["required"] = list(words.required)
            if reader.null:
                schema["type"] = "object"
        return schema | self._size(words)

    def _size(self, words: Words) -> Schema:
        if not self._checked:
            return {}
        return ({"minProperties": 1} if words.filled else {}) | ({"maxProperties": words.most} if words.most else {})


def _choice(words: Words) -> Schema:
    exact: Schema = {"enum": [*(choice for choice in words.choices if choice), None]}
    if words.loose:
        # JSON schema has no flag for case: `[Oo][Ff][Ff]`. Blank means the default.
        spelled = ("".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in choice) for choice in words.choices)
        return {"anyOf": [exact, {"type": "string", "pattern": rf"^\s*({'|'.join(spelled)})?\s*$"}]}
    if "" in words.choices:
        exact["enum"].append("")
    return exact


def _words_for_booleans() -> list[str]:
    """YAML 1.2 reads these as text, the reader as booleans (spec-pipelines 1.2)."""
    return sorted((scalars.TRUE_WORDS | scalars.FALSE_WORDS) - scalars.TRUE - scalars.FALSE)


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _paths(reader: Reader, path: str) -> Iterator[str]:
    below: list[tuple[str, Reader]] = []
    if isinstance(reader, OutputEntry):
        reader = reader.fields
    if isinstance(reader, ListOf):
        below = [(f"{path}[]", reader.item)]
    elif isinstance(reader, Audience):
        below = [(f"{path}[]", TEXT)]
    elif isinstance(reader, MapOf):
        below = [(f"{path}.*", reader.value)]
    elif isinstance(reader, Fields):
        below = [(_below(path, key), value) for key, value in reader.fields.items()]
    for name, value in below:
        yield name
        yield from _paths(value, name)
