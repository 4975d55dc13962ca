"""What an apply asks for (contract-runs 2.4), as a value: from JSON or from a form, one and the same.

Decoding and the checks that need nothing but the request. Raises InvalidError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from gocdnext.errors import InvalidError

MAX_SLUG = 255
"""Characters; a slug is one segment of a url and a key of an index."""
MAX_CONFIG_PATH = 512
MAX_PARTS = 2000
"""Parts of a form: more than files that anybody has, few enough to hold."""

_CONFIG_PATH = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
_YAML = (".yaml", ".yml")
_SCM_FIELDS = ("provider", "url", "default_branch", "webhook_secret", "auth_ref")


class ScmBody(msgspec.Struct, kw_only=True):
    """`scm_source` of the request."""

    provider: str | None = None
    url: str | None = None
    default_branch: str | None = None
    webhook_secret: str | None = None
    auth_ref: str | None = None


class FileBody(msgspec.Struct, kw_only=True):
    """One entry of `files`."""

    name: str | None = None
    content: str | None = None


class ApplyBody(msgspec.Struct, kw_only=True):
    """The JSON object of an apply; unknown keys are ignored, null counts as absent."""

    slug: str | None = None
    name: str | None = None
    description: str | None = None
    config_repo: str | None = None
    config_path: str | None = None
    files: list[FileBody] | None = None
    scm_source: ScmBody | None = None


class SourceText(NamedTuple):
    """One pipeline file as it was sent."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class ScmSource:
    """The repository to bind. Empty strings are what was not said."""

    provider: str
    url: str
    default_branch: str
    webhook_secret: str
    auth_ref: str


@dataclass(frozen=True, slots=True)
class ApplyRequest:
    """A decoded apply; slug and config path are checked, nothing else is."""

    slug: str
    name: str
    files: tuple[SourceText, ...] = ()
    description: str = ""
    config_repo: str = ""
    config_path: str = ""
    """Empty: as it is stored, or the default."""
    scm_source: ScmSource | None = None
    warnings: tuple[str, ...] = ()


def from_body(body: ApplyBody, warnings: tuple[str, ...] = ()) -> ApplyRequest:
    """The request that a decoded body makes. Raises InvalidError for a bad slug, path, file entry or NUL byte."""
    slug = body.slug or ""
    _check_slug(slug)
    _check_config_path(body.config_path or "")
    files = tuple(_file(entry) for entry in body.files or ())
    scm = body.scm_source
    request = ApplyRequest(
        slug=slug,
        name=body.name or slug,
        description=body.description or "",
        config_repo=body.config_repo or "",
        config_path=body.config_path or "",
        files=files,
        scm_source=None if scm is None else ScmSource(*(getattr(scm, field) or "" for field in _SCM_FIELDS)),
        warnings=warnings,
    )
    for field in ("name", "description", "config_repo"):
        _check_text(field, getattr(request, field))
    if request.scm_source is not None:
        for field in _SCM_FIELDS:
            _check_text(f"scm_source.{field}", getattr(request.scm_source, field))
    return request


def from_form(data: bytes, boundary: bytes) -> ApplyRequest:
    """The request of a multipart form. Raises InvalidError."""
    form = _Form()
    for part, content in _parts(data, boundary):
        form.take(part, content)
    return from_body(form.body(), tuple(form.warnings))


class _Form:
    """Collects the parts of a form into the body that the JSON encoding has."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._files: list[FileBody] = []
        self._fields: dict[str, str] = {}

    def take(self, part: Field | File, content: bytes) -> None:
        """A part with a file name, or named like a YAML file, is a pipeline file; any other is a field."""
        name = part.name or ""
        filename = part.filename if isinstance(part, File) else name if name.endswith(_YAML) else ""
        if not filename:
            self._fields[name] = _text(f"field {name!r}", content)
            return
        base = re.split(r"[/\\]", filename)[-1]
        if not base.endswith(_YAML):
            self.warnings.append(f"{base[:255]}: skipped, its name does not end in .yaml or .yml")
            return
        self._files.append(FileBody(name=base, content=_text(base, content)))

    def body(self) -> ApplyBody:
        """Single fields win over the same key of `metadata`."""
        metadata = self._fields.get("metadata", "").strip()
        body = _json("metadata", metadata, ApplyBody) if metadata else ApplyBody()
        for key in ("slug", "name", "description", "config_repo", "config_path"):
            if self._fields.get(key):
                setattr(body, key, self._fields[key])
        if self._fields.get("scm_source", "").strip():
            body.scm_source = _json("scm_source", self._fields["scm_source"], ScmBody)
        flat = {field: self._fields[f"scm_{field}"] for field in _SCM_FIELDS if self._fields.get(f"scm_{field}")}
        if flat:
            body.scm_source = msgspec.structs.replace(body.scm_source or ScmBody(), **flat)
        body.files = self._files
        return body


def _parts(data: bytes, boundary: bytes) -> list[tuple[Field | File, bytes]]:
    """Every part of a form with its content. Raises InvalidError."""
    found: list[tuple[Field | File, bytearray]] = []
    try:
        if not boundary:
            raise ValueError("the Content-Type names no boundary")
        decoder = MultipartDecoder(boundary, max_form_memory_size=None, max_parts=MAX_PARTS)
        decoder.receive_data(data)
        decoder.receive_data(None)
        event = decoder.next_event()
        while not isinstance(event, (Epilogue, NeedData)):
            if isinstance(event, (Field, File)):
                found.append((event, bytearray()))
            elif isinstance(event, Data):
                found[-1][1].extend(event.data)
            event = decoder.next_event()
    except RequestEntityTooLarge:
        raise InvalidError(f"invalid multipart: more than {MAX_PARTS} parts") from None
    except (ValueError, LookupError) as error:
        raise InvalidError(f"invalid multipart: {error or 'unreadable'}") from None
    return [(part, bytes(content)) for part, content in found]


B = TypeVar("B", ApplyBody, ScmBody)


def _json(field: str, text: str, kind: type[B]) -> B:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidError(f"invalid multipart: {field}: {error}") from None


def _text(what: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidError(f"{what}: not UTF-8 at byte {error.start}") from None


def _file(entry: FileBody) -> SourceText:
    if not entry.name:
        raise InvalidError("file entry missing name")
    if not entry.name.isprintable() or len(entry.name) > 255:
        raise InvalidError("file names must be printable and at most 255 characters")
    content = entry.content or ""
    if "\0" in content:
        line = content.count("\n", 0, content.index("\0")) + 1
        raise InvalidError(f"{entry.name}:{line}: the file contains a NUL byte")
    return SourceText(entry.name, content)


def _check_slug(slug: str) -> None:
    if not slug:
        raise InvalidError("slug is required")
    if len(slug) > MAX_SLUG:
        raise InvalidError(f"invalid slug: longer than {MAX_SLUG} characters")
    if "/" in slug or slug in (".", "..") or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in slug):
        raise InvalidError("invalid slug: it is a part of urls and cannot contain `/` or control characters")


def _check_config_path(path: str) -> None:
    if not path:
        return
    if len(path) > MAX_CONFIG_PATH:
        raise InvalidError(f"invalid config_path: longer than {MAX_CONFIG_PATH} characters")
    if not _CONFIG_PATH.fullmatch(path) or any(segment in (".", "..") for segment in path.split("/")):
        raise InvalidError(
            "invalid config_path: expected a relative path of letters, digits, `.`, `_` and `-`, without `.` and `..`"
        )


def _check_text(field: str, value: str) -> None:
    if "\0" in value:
        raise InvalidError(f"{field} contains a NUL byte")
