"""Texts of agents, made so that PostgreSQL takes them. Pure."""

from __future__ import annotations


def clean(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, without NUL and without a character that is cut in two."""
    if "\0" in text:
        text = text.replace("\0", "")
    if len(text) * 4 <= limit:
        return text
    data = text.encode()
    return text if len(data) <= limit else data[:limit].decode(errors="ignore")
