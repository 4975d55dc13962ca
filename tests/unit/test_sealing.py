"""Sealing of secrets: only the right key and purpose open a value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gocdnext.secrets.sealing import KEY_BYTES, Keyring, Sealed, UnsealError, key_id

OLD, NEW = bytes(KEY_BYTES), b"\1" * KEY_BYTES


@given(st.text(), st.text())
def test_what_is_sealed_opens_again(value: str, purpose: str) -> None:
    ring = Keyring([NEW])
    sealed = ring.seal(value, purpose)
    assert value.encode() not in sealed.data or len(value.encode()) < 4
    assert ring.open(sealed, purpose) == value


def test_equal_values_are_sealed_differently() -> None:
    ring = Keyring([NEW])
    assert ring.seal("same", "p").data != ring.seal("same", "p").data


def test_the_newest_key_seals_and_older_ones_still_open() -> None:
    sealed = Keyring([OLD]).seal("value", "p")
    both = Keyring([NEW, OLD])
    assert both.open(sealed, "p") == "value"
    assert both.seal("value", "p").key_id == key_id(NEW)
    with pytest.raises(UnsealError, match=f"sealed with the key {key_id(OLD)}"):
        Keyring([NEW]).open(sealed, "p")


def test_a_value_opens_for_its_purpose_only_and_only_whole() -> None:
    ring = Keyring([NEW])
    sealed = ring.seal("hunter2", "secret a NAME")
    for broken, purpose in (
        (sealed, "secret b NAME"),
        (Sealed(sealed.key_id, sealed.data[:-1] + bytes([sealed.data[-1] ^ 1])), "secret a NAME"),
        (Sealed(sealed.key_id, sealed.data[:5]), "secret a NAME"),
        (Sealed(sealed.key_id, b""), "secret a NAME"),
    ):
        with pytest.raises(UnsealError, match="damaged") as error:
            ring.open(broken, purpose)
        assert "hunter2" not in str(error.value)


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring([b"short"])
    with pytest.raises(ValueError, match="needs a key"):
        Keyring([])


def test_nothing_shows_a_sealed_value() -> None:
    assert "data" not in repr(Keyring([NEW]).seal("v", "p"))
