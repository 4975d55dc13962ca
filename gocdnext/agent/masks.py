"""Replacing secrets in text by `***` (protocol-agent 3.5; anchors E 6). Pure; it knows neither logs nor jobs.

A secret is also recognised as tools print it by accident: in base64 (also in the middle of something else), in a URL,
in JSON, in XML, quoted by a shell, or a line at a time. It is no protection against a job that wants to tell.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "***"
MIN_BYTES = 4
"""Shorter values are left alone: they would blank out ordinary words."""
MIN_BASE64 = 6
"""Characters of base64 that have to be known: less is found in any text."""
_COLUMNS = (64, 76)
"""Where tools break lines of base64."""
_ESCAPE = re.compile("%[0-9A-F]{2}")


class Masker:
    """Replaces each secret, each form of it and each single line of a secret that has several, the longest first.

    Longest first, so that a secret which contains another one leaves no rest behind.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        values: set[str] = set()
        for secret in secrets:
            clean = secret.replace("\0", "")
            bare = clean.strip("\r\n")
            values.update((clean, bare))
            values.update(line.strip("\r") for line in clean.split("\n"))
            if _counts(bare):
                values.update(_forms(bare))
        kept = [value for value in values if _counts(value)]
        self._values = sorted(kept, key=lambda value: (-len(value), value))
        self.longest_line = max((len(value) for value in self._values if "\n" not in value), default=0)
        """Characters of the longest secret that fits in one line: what a reader of unfinished lines must hold back."""

    def __call__(self, text: str) -> str:
        for value in self._values:
            if value in text:
                text = text.replace(value, MASK)
        return text


def _counts(value: str) -> bool:
    return len(value.encode("utf-8", "replace")) >= MIN_BYTES


def _forms(secret: str) -> Iterator[str]:
    """How else the secret may appear in one line of text."""
    for ascii_only in (True, False):
        yield json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
    data = secret.encode("utf-8", "replace")
    for escaped in (quote(data, safe=""), quote(data), quote_plus(data)):
        yield escaped
        yield _ESCAPE.sub(lambda match: match[0].lower(), escaped)
    yield html.escape(secret)
    yield html.escape(secret, quote=False)
    yield secret.replace("'", "'\\''")
    yield from _base64_forms(data)


def _base64_forms(data: bytes) -> Iterator[str]:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(data).decode()
        yield whole
        yield whole.rstrip("=")
        for columns in _COLUMNS:
            if len(whole) > columns:
                pieces = [whole[at : at + columns] for at in range(0, len(whole), columns)]
                yield from (piece for piece in pieces if len(piece.rstrip("=")) >= MIN_BASE64)
        for before in range(3):
            # With 0, 1 or 2 bytes before it in a group of three. Characters that hold bits of neighbours are unknown.
            known = encode(bytes(before) + data).decode()[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
            if len(known) >= MIN_BASE64:
                yield known
