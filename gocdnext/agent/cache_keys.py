"""From the key of a cache, as it is written in the pipeline, to the key that the server sees (protocol-agent 3.10).

Byte for byte what other agents of this protocol make of the same files: they share the caches. Files only.
"""

from __future__ import annotations

import hashlib
import os

from gocdnext.agent.failures import DeliveryError
from gocdnext.agent.found import Check, FoundError, find, is_pattern, never, open_regular
from gocdnext.pipeline.job_parts import CACHE_TOKEN, MAX_CACHE_KEY_BYTES, cache_key_flaw

MAX_FILES = 100
MAX_FILE, MAX_TOTAL = 16 * 1024 * 1024, 64 * 1024 * 1024
"""Bytes that one file, and all files of one pattern together, may have."""
DIGITS = 12


class CacheKeyError(DeliveryError):
    """The key cannot be expanded; the text names it and says why."""


def expand(key: str, root: str, check: Check = never) -> str:
    """The key with each `{{ hash "PATTERN" }}` replaced; patterns are relative to `root`. CacheKeyError.

    A key without such parts is taken as it stands: nothing else is substituted in it.
    """
    if not key.strip():
        raise CacheKeyError("a cache has an empty key")
    flaw = cache_key_flaw(key)
    if flaw:
        raise CacheKeyError(f"the key {key[:100]!r} {flaw}")
    try:
        expanded = CACHE_TOKEN.sub(lambda token: digest(token[1], root, check), key)
    except FoundError as error:
        raise CacheKeyError(f"{key!r}: {error}") from error
    except OSError as error:
        raise CacheKeyError(f"{key!r}: {error.filename or 'a file'} cannot be read: {error.strerror}") from error
    if len(expanded.encode()) > MAX_CACHE_KEY_BYTES:
        raise CacheKeyError(f"the key {key[:100]!r} becomes longer than {MAX_CACHE_KEY_BYTES} bytes")
    return expanded


def digest(pattern: str, root: str, check: Check = never) -> str:
    """The first digits of SHA-256 over name, LF, content, LF of each file that matches, in the order of the names."""
    names = find(root, pattern, check, limit=MAX_FILES)
    if is_pattern(pattern):  # what it matches beside files does not count; a name without wildcards has to be one
        names = [name for name in names if os.path.isfile(os.path.join(root, name))]
    if not names:
        raise FoundError(f"no file matches {pattern!r}")
    total = hashlib.sha256()
    left = MAX_TOTAL
    for name in names:
        content = _read(root, name)
        left -= len(content)
        if left < 0:
            raise FoundError(
                f"the files that match {pattern!r} have more than {MAX_TOTAL >> 20} MiB; that is the limit"
            )
        total.update(os.fsencode(name) + b"\n" + content + b"\n")
        check()
    return total.hexdigest()[:DIGITS]


def _read(root: str, name: str) -> bytes:
    with open(open_regular(root, name), "rb") as file:
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise FoundError(f"{name!r} is larger than {MAX_FILE >> 20} MiB; that is the limit for `hash`")
    return content
