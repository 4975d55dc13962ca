"""The XML that S3 answers with, and the little that it is sent. Bounded by the caller; entities are refused. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from gocdnext.blobs.store import Listed, is_key

MAX_WORDS = 200
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class NoXmlError(ValueError):
    """The answer is not one of S3."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What an error document says; empty texts where it says nothing."""

    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing, and where the next one begins; empty at the end."""

    blobs: list[Listed]
    next: str


@dataclass(frozen=True, slots=True)
class Pending:
    """An upload in parts that nobody has completed."""

    key: str
    upload_id: str
    since: datetime


def failure(content: bytes) -> Failure:
    """The error in a document, wherever it comes from: of what is none, nothing is said."""
    try:
        root = _root(content)
    except NoXmlError:
        return Failure()
    if _name(root) != "Error":
        return Failure()
    said = {_name(child): "".join(c for c in (child.text or "") if c.isprintable())[:MAX_WORDS] for child in root}
    return Failure(said.get("Code", ""), said.get("Message", ""))


def upload_id(content: bytes) -> str:
    """The id of a new upload in parts. Raises NoXmlError."""
    found = _text(_root(content, "InitiateMultipartUploadResult"), "UploadId")
    if not found:
        raise NoXmlError("no upload id")
    return found


def page(content: bytes) -> Page:
    """A page of a listing; what is not a key of ours is left out. Raises NoXmlError."""
    root = _root(content, "ListBucketResult")
    blobs = [
        Listed(key, _moment(_text(entry, "LastModified")))
        for entry in _all(root, "Contents")
        if is_key(key := _text(entry, "Key"))
    ]
    return Page(blobs, _text(root, "NextContinuationToken") if _text(root, "IsTruncated") == "true" else "")


def pending(content: bytes) -> tuple[list[Pending], dict[str, str]]:
    """A page of the uploads that are under way, and the query for the next one; empty at the end. Raises NoXmlError."""
    root = _root(content, "ListMultipartUploadsResult")
    found = [
        Pending(_text(entry, "Key"), _text(entry, "UploadId"), _moment(_text(entry, "Initiated")))
        for entry in _all(root, "Upload")
    ]
    if _text(root, "IsTruncated") != "true":
        return found, {}
    return found, {"key-marker": _text(root, "NextKeyMarker"), "upload-id-marker": _text(root, "NextUploadIdMarker")}


def undeleted(content: bytes) -> dict[str, str]:
    """The keys that could not be deleted, and why. Raises NoXmlError."""
    root = _root(content, "DeleteResult")
    return {_text(entry, "Key"): _text(entry, "Code") or "unknown" for entry in _all(root, "Error")}


def deletion(keys: Iterable[str]) -> bytes:
    """The request to delete many at once, which names only what was not."""
    root = Element("Delete", xmlns=_NAMESPACE)
    for key in keys:
        SubElement(SubElement(root, "Object"), "Key").text = key
    SubElement(root, "Quiet").text = "true"
    return tostring(root)


def completion(etags: Iterable[str]) -> bytes:
    """The request that makes one blob of its parts."""
    root = Element("CompleteMultipartUpload", xmlns=_NAMESPACE)
    for number, etag in enumerate(etags, 1):
        part = SubElement(root, "Part")
        SubElement(part, "PartNumber").text = str(number)
        SubElement(part, "ETag").text = etag
    return tostring(root)


def location(region: str) -> bytes:
    """The request for a new bucket."""
    root = Element("CreateBucketConfiguration", xmlns=_NAMESPACE)
    SubElement(root, "LocationConstraint").text = region
    return tostring(root)


def _root(content: bytes, name: str = "") -> Element:
    try:
        root: Element = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise NoXmlError("no XML") from None
    if name and _name(root) != name:
        raise NoXmlError(f"another document than {name}")
    return root


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _all(parent: Element, name: str) -> Iterator[Element]:
    return (child for child in parent if _name(child) == name)


def _text(parent: Element, name: str) -> str:
    return next((child.text or "" for child in _all(parent, name)), "")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise NoXmlError("a time that is none")
    return moment
