"""Cuts what the loader never reads off an ELF file: symbols for debuggers and the table of sections, which stand at its end.

What `strip` does, for machines without binutils. Compiled wheels carry up to nine tenths of their size in debug data.
"""

from __future__ import annotations

import struct
from pathlib import Path

_MAGIC = b"\x7fELF\x02\x01"
"""64 bits, little-endian: both architectures that there is a build for."""
_HEADER = struct.Struct("<QQQIHHHHHH")
"""e_entry, e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx"""
_HEADER_AT = 24
_SEGMENT = struct.Struct("<IIQQQQQQ")
"""p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align"""


def trim(path: Path) -> int:
    """Shortens the file to the end of its last segment, for which it has no sections then; the bytes saved.

    A file that is not ELF of 64 bits, or has nothing behind its segments, is left as it is.
    """
    content = bytearray(path.read_bytes())
    if not content.startswith(_MAGIC):
        return 0
    entry, table, _, flags, size, segment_size, segments, section_size, _, _ = _HEADER.unpack_from(content, _HEADER_AT)
    end = table + segment_size * segments
    for number in range(segments):
        _, _, offset, _, _, length, _, _ = _SEGMENT.unpack_from(content, table + number * segment_size)
        end = max(end, offset + length)
    saved = len(content) - int(end)
    if saved <= 0:
        return 0
    _HEADER.pack_into(content, _HEADER_AT, entry, table, 0, flags, size, segment_size, segments, section_size, 0, 0)
    mode = path.stat().st_mode
    path.write_bytes(content[:end])
    path.chmod(mode)
    return saved
