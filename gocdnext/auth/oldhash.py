"""bcrypt hashes that another program left in `users`: verified once, then replaced by ours at that sign-in.

The work is done by the C library's own `crypt_r`, which every Linux distribution that we run on brings (libxcrypt);
called through ctypes it leaves the interpreter to others meanwhile. Where it is missing such a hash fits no password.
"""

from __future__ import annotations

import ctypes
import functools
import hmac
import re

LONGEST = 72
"""Bytes of a password that bcrypt looks at; the reference refuses longer ones, so no hash was made of one."""
MOST_ROUNDS = 14
"""Highest cost that is worked on: a second or two. The reference writes 12."""
_SCRATCH = 256 * 1024
"""Bytes for `struct crypt_data`: 32 KiB in libxcrypt, 128 KiB in the older libcrypt of glibc."""
_BCRYPT = re.compile(rb"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")


def verify(password: bytes, stored: bytes) -> bool:
    """Whether the password is the one behind a bcrypt hash. False for anything that cannot be worked on."""
    match = _BCRYPT.fullmatch(stored)
    if match is None or int(match[1]) > MOST_ROUNDS or len(password) > LONGEST or b"\0" in password:
        return False
    library = _library()
    if library is None:
        return False
    made = library.crypt_r(password, stored, ctypes.create_string_buffer(_SCRATCH))
    return made is not None and hmac.compare_digest(made, stored)


@functools.cache
def _library() -> ctypes.CDLL | None:
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.crypt_r.restype = ctypes.c_char_p
        library.crypt_r.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p)
        return library
    return None
