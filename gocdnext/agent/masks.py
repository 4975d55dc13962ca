"""Replacing secrets in text by `***` (protocol-agent 3.5). Pure; it knows neither logs nor jobs."""

from __future__ import annotations

from collections.abc import Iterable

MASK = "***"
MIN_BYTES = 4
"""Shorter values are left alone: they would blank out ordinary words."""


class Masker:
    """Replaces each secret and each single line of a secret that has several, the longest first.

    Longest first, so that a secret which contains another one leaves no rest behind.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        values: set[str] = set()
        for secret in secrets:
            clean = secret.replace("\0", "")
            values.update((clean, clean.strip("\r\n")))
            values.update(line.strip("\r") for line in clean.split("\n"))
        kept = [value for value in values if len(value.encode("utf-8", "replace")) >= MIN_BYTES]
        self._values = sorted(kept, key=lambda value: (-len(value), value))
        self.longest_line = max((len(value) for value in self._values if "\n" not in value), default=0)
        """Characters of the longest secret that fits in one line: what a reader of unfinished lines must hold back."""

    def __call__(self, text: str) -> str:
        for value in self._values:
            if value in text:
                text = text.replace(value, MASK)
        return text
