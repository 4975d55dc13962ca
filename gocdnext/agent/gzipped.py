"""Gzip in a stream, both ways, by zlib: fast for what cannot be compressed, bounded for what unpacks to too much.

It knows neither tar nor files of jobs.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Protocol

BLOCK = 1024 * 1024
"""Bytes that are compressed, or stored, in one go."""
LEVEL = 1
"""The fastest: archives are read once or twice, over a network that is quicker than a thorough compression."""
READ = 256 * 1024
SAMPLE = 4096
INCOMPRESSIBLE = 0.95
"""A block whose samples do not shrink below this part of their size is stored as it is."""

_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time: the same content gives the same bytes


class Writable(Protocol):
    def write(self, data: memoryview, /) -> int: ...


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class GzipError(Exception):
    """The stream is not gzip, is damaged, or ends too early."""


class GzipWriter:
    """Takes bytes, writes one gzip member. `size` and `sha256` are those of what was written, complete after `close`."""

    def __init__(self, out: Writable, wrote: Callable[[int], None]) -> None:
        self._out = out
        self._wrote = wrote
        self._pending = bytearray()
        self._crc = 0
        self._taken = 0
        self._hash = hashlib.sha256()
        self.size = 0
        self._emit(_HEAD)

    @property
    def sha256(self) -> str:
        """Hexadecimal."""
        return self._hash.hexdigest()

    def tell(self) -> int:
        """How many bytes were taken."""
        return self._taken

    def write(self, data: bytes) -> int:
        self._taken += len(data)
        self._pending += data
        while len(self._pending) >= BLOCK:
            block = bytes(self._pending[:BLOCK])
            del self._pending[:BLOCK]
            self._deflate(block, zlib.Z_SYNC_FLUSH)
        return len(data)

    def close(self) -> None:
        """Writes what is pending, and the end."""
        self._deflate(bytes(self._pending), zlib.Z_FINISH)
        self._pending.clear()
        self._emit(self._crc.to_bytes(4, "little") + (self._taken & 0xFFFFFFFF).to_bytes(4, "little"))

    def _deflate(self, block: bytes, flush: int) -> None:
        """Each block has a compressor of its own; ended by a flush, the next one's output may follow."""
        compressor = zlib.compressobj(0 if _is_dense(block) else LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._crc = zlib.crc32(block, self._crc)
        self._emit(compressor.compress(block) + compressor.flush(flush))

    def _emit(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:  # an unbuffered file may take less than it is given
            rest = rest[self._out.write(rest) :]
        self._hash.update(data)
        self.size += len(data)
        self._wrote(len(data))


class GzipReader:
    """Gives the unpacked bytes of one or more members; what follows the last one is not looked at.

    `check(packed, unpacked)` is called with the bytes so far, after each piece; what it raises passes through.
    """

    def __init__(self, source: Readable, check: Callable[[int, int], None]) -> None:
        self._source = source
        self._check = check
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._input = b""
        self._ended = False
        self.packed = 0
        self.unpacked = 0

    def read(self, size: int) -> bytes:
        """At most `size` bytes, fewer at will; none at the end. GzipError."""
        while not self._ended:
            if not self._input:
                self._input = self._more()
                if not self._input:
                    raise GzipError("it ends too early")
            try:
                data = self._inflater.decompress(self._input, size)
            except zlib.error:
                raise GzipError("it is damaged, or is no gzip") from None
            self._input = self._inflater.unconsumed_tail
            if self._inflater.eof:
                self._next_member()
            if data:
                self.unpacked += len(data)
                self._check(self.packed, self.unpacked)
                return data
        return b""

    def _next_member(self) -> None:
        rest = self._inflater.unused_data or self._more()
        if rest.startswith(_HEAD[:2]):
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
            self._input = rest
        else:
            self._ended = True

    def _more(self) -> bytes:
        data = self._source.read(READ)
        self.packed += len(data)
        return data


def _is_dense(block: bytes) -> bool:
    """Whether four samples of a block say that it cannot be compressed."""
    if len(block) < 4 * SAMPLE:
        return False
    step = (len(block) - SAMPLE) // 3
    sample = b"".join(block[start : start + SAMPLE] for start in range(0, 3 * step + 1, step))
    return len(zlib.compress(sample, LEVEL)) >= INCOMPRESSIBLE * len(sample)
