"""Argon2id of our own, bcrypt of the reference, and nothing that can be worked to death."""

from __future__ import annotations

import pytest

from gocdnext.auth import oldhash, passwords
from gocdnext.errors import InvalidError

BCRYPT = b"$2b$04$abcdefghijklmnopqrstuu"


@pytest.mark.parametrize("password", ["12345678", "p" * 512, "pass\0word", "påsswörd", "\ud800 lone surrogate"])
def test_a_hash_fits_its_password_only(password: str) -> None:
    passwords.check_policy(password)
    stored = passwords.hash_now(password)
    assert passwords.is_current(stored)
    assert stored != passwords.hash_now(password)
    assert passwords.verify_now(password, stored)
    assert not passwords.verify_now(password + "x", stored)
    assert not passwords.verify_now(password[:-1], stored)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"plain text",
        b"$argon2id$",
        b"$argon2id$v=19$m=19456,t=2,p=1$$",
        b"$argon2id$v=19$m=4294967295,t=4294967295,p=1$bm9ib2R5bm9ib2R5$bm9ib2R5bm9ib2R5",
        b"$argon2id$v=19$m=19456,t=999999,p=1$bm9ib2R5bm9ib2R5$bm9ib2R5bm9ib2R5",
        b"$argon2id$v=19$m=19456,t=2,p=0$bm9ib2R5bm9ib2R5$bm9ib2R5bm9ib2R5",
        b"$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5$b",
        b"$argon2id$v=19$m=8,t=1,p=1$\xff\xff$\xff",
        b"$2b$31$" + b"a" * 53,
        b"$2b$04$" + b"a" * 52,
        b"$2x$04$" + b"a" * 53,
        b"$6$salt$" + b"a" * 53,
    ],
)
def test_what_cannot_be_read_is_nobodys(stored: bytes) -> None:
    assert not passwords.verify_now("12345678", stored)


def test_hashes_of_the_reference() -> None:
    library = oldhash._library()
    assert library is not None
    import ctypes

    for password in (b"12345678", b"p" * 72):
        stored = library.crypt_r(password, BCRYPT, ctypes.create_string_buffer(oldhash._SCRATCH))
        assert stored.startswith(b"$2b$04$")
        assert oldhash.verify(password, stored)
        assert not oldhash.verify(password[:-1], stored)
        assert not passwords.is_current(stored)
    # bcrypt would look at 72 bytes only, and at those before a NUL.
    assert not oldhash.verify(b"p" * 73, stored)
    assert not oldhash.verify(b"p" * 71 + b"\0", stored)


def test_without_the_c_library_an_old_hash_fits_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oldhash, "_library", lambda: None)
    assert not oldhash.verify(b"12345678", b"$2b$04$" + b"a" * 53)


@pytest.mark.parametrize(
    ("password", "message"), [("", "minimum 8"), ("1234567", "minimum 8"), ("é" * 257, "maximum 512")]
)
def test_policy(password: str, message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        passwords.check_policy(password)
