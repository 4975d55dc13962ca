"""From the bytes of a pipe to the texts of log lines (protocol-agent 3.4). Pure; it does no I/O and numbers nothing."""

from __future__ import annotations

import codecs

from gocdnext.agent.masks import Masker

MAX_LINE = 64 * 1024
"""Characters of one log line; a longer one is split. At most 256 KiB of UTF-8, far below the 4 MiB that gRPC
implementations take as one message."""


class LineSplitter:
    """Splits at newlines, cuts one trailing CR, drops NUL, replaces invalid UTF-8, masks, and splits long lines.

    Masking sees whole lines, whatever the chunk borders. Of a line that is too long to be held whole, as much is
    held back as a secret can be long, so that no secret slips through at the split. Holds at most
    MAX_LINE + the longest secret + one chunk.
    """

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that are finished with this chunk."""
        text = self._decoder.decode(chunk)
        if "\0" in text:
            text = text.replace("\0", "")
        text = self._rest + text
        whole, newline, self._rest = text.rpartition("\n")
        lines = self._finished(whole) if newline else []
        if len(self._rest) >= MAX_LINE + self._masker.longest_line:
            lines += self._overlong()
        return lines

    def finish(self) -> list[str]:
        """The last line, when it had no newline."""
        text = self._rest + self._decoder.decode(b"", final=True)
        self._rest = ""
        return self._finished(text) if text else []

    def _finished(self, whole: str) -> list[str]:
        lines = self._masker(whole).split("\n")
        if "\r" in whole:
            lines = [line.removesuffix("\r") for line in lines]
        if len(whole) > MAX_LINE:
            return [piece for line in lines for piece in _pieces(line)]
        return lines

    def _overlong(self) -> list[str]:
        """What can be given away of a line whose end is not in sight."""
        masked = self._masker(self._rest)
        cut = max(0, len(masked) - max(self._masker.longest_line, 1))  # a CR may yet turn out to be the line's end
        cut -= cut % MAX_LINE
        self._rest = masked[cut:]
        return _pieces(masked[:cut]) if cut else []


def _pieces(line: str) -> list[str]:
    if len(line) <= MAX_LINE:
        return [line]
    return [line[start : start + MAX_LINE] for start in range(0, len(line), MAX_LINE)]
