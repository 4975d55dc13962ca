"""The query string as a struct: what a route asks for is declared once, for its handler and for the API's document.

A field of the struct is a parameter: its type, its bounds and its default are what is accepted and what is described.
Nothing here knows a resource.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from quart import request

from gocdnext.api import params
from gocdnext.api.params import INT32, INT64
from gocdnext.errors import InvalidError

S = TypeVar("S", bound=msgspec.Struct)

LIMIT = "How many entries at most; without it all."
OFFSET = "How many entries to leave out first."


@dataclass(frozen=True)
class Whole:
    """What a whole number is beside its bounds: `Meta(extra={"whole": Whole(...)})`."""

    width: int = INT32
    """A number above it is refused. One that is only above its greatest value is taken for that value (0.3)."""
    refusal: str = ""
    """What is said of a bad one, where a route has words of its own."""
    lenient: bool = False
    """Whether a bad one counts as not said."""


Offset = Annotated[int, Meta(ge=0, le=INT64, description=OFFSET, extra={"whole": Whole(INT64)})]


class Paged(msgspec.Struct, kw_only=True):
    """The part of a list that is asked for (contract-runs 0.4); the whole list without a limit."""

    limit: Annotated[int, Meta(ge=1, le=INT32, description=LIMIT)] | None = None
    offset: Offset = 0

    @property
    def part(self) -> slice:
        """The part of a list that is whole already."""
        return slice(self.offset, None if self.limit is None else self.offset + self.limit)


def asked(kind: type[S]) -> S:
    """The query string of the request at hand. An empty value counts as absent. Raises InvalidError."""
    said = request.args
    return kind(**{field: read() for field, name, needed, read in _plan(kind) if needed or name in said})


@cache
def _plan(kind: type[msgspec.Struct]) -> list[tuple[str, str, bool, Callable[[], Any]]]:
    """The parameters: the field and name of each, whether it must be there, and how it is read."""
    return [(entry.name, entry.encode_name, entry.required, _reader(entry)) for entry in msgspec.structs.fields(kind)]


def _reader(entry: msgspec.structs.FieldInfo) -> Callable[[], Any]:
    shape, extra = bare(msgspec.inspect.type_info(entry.type))
    name, default = entry.encode_name, entry.default
    if isinstance(shape, msgspec.inspect.IntType):
        return _whole(name, default, shape, extra.get("whole", Whole()))
    if isinstance(shape, msgspec.inspect.ListType):
        return lambda: [value for value in request.args.getlist(name) if value]
    if not isinstance(shape, msgspec.inspect.StrType):
        raise TypeError(f"{name}: a parameter is a whole number, a text or a list of texts")
    if not entry.required:
        return lambda: request.args[name] or default

    def read() -> str:
        if value := request.args.get(name):
            return value
        raise InvalidError(extra.get("refusal") or f"`{name}` query param is required")

    return read


def _whole(name: str, default: Any, shape: msgspec.inspect.IntType, words: Whole) -> Callable[[], Any]:
    low, high = (-INT64 if shape.ge is None else shape.ge), (INT64 if shape.le is None else shape.le)

    def read() -> Any:
        try:
            return params.whole(name, default, low=low, high=high, width=words.width, refusal=words.refusal)
        except InvalidError:
            if words.lenient:
                return default
            raise

    return read


def bare(shape: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, dict[str, Any]]:
    """A type without what is said about it and without None, and what was said for its reader."""
    extra: dict[str, Any] = {}
    while True:
        if isinstance(shape, msgspec.inspect.Metadata):
            extra |= shape.extra or {}
            shape = shape.type
        elif isinstance(shape, msgspec.inspect.UnionType):
            shape = next(one for one in shape.types if not isinstance(one, msgspec.inspect.NoneType))
        else:
            return shape, extra
