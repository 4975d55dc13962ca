"""Why another store gave no value. The texts are shown to people and kept with jobs: no credential, no value."""

from __future__ import annotations

from typing import Final

UNAUTHORIZED: Final = "unauthorized"
UNREACHABLE: Final = "unreachable"
ERROR: Final = "error"


class StoreError(Exception):
    """`kind` is UNAUTHORIZED (the store refuses us), UNREACHABLE (later it may do), or ERROR."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def checked(value: str, max_bytes: int) -> str:
    """A value that a job can be given. Raises StoreError."""
    if "\0" in value:
        raise StoreError(ERROR, "the value holds a NUL byte: no environment variable can")
    if len(value.encode(errors="replace")) > max_bytes:
        raise StoreError(ERROR, f"the value is larger than {max_bytes // 1024} KiB")
    return value
