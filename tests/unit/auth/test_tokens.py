"""The looks of tokens and cookies (contract-admin 1.3, 1.4)."""

from __future__ import annotations

import hashlib

import pytest

from gocdnext.auth import tokens
from gocdnext.auth.identity import OPERATOR, Subject
from gocdnext.auth.roles import Role, role_of


@pytest.mark.parametrize(("service", "prefix", "length"), [(False, "gnk_", 56), (True, "gnk_sa_", 59)])
def test_a_token(service: bool, prefix: str, length: int) -> None:
    made = tokens.make(for_service_account=service)
    body = made.plaintext.removeprefix(prefix)
    assert len(made.plaintext) == length
    assert made.prefix == body[:8]
    assert made.hash == hashlib.sha256(body.encode()).hexdigest()
    assert tokens.read(made.plaintext) == (service, made.hash)
    assert made != tokens.make(for_service_account=service)


@pytest.mark.parametrize(
    "text", ["", "gnk_", "gnk_sa_", "gnk_" + "W" * 52, "gnk_" + "0" * 51, "GNK_" + "0" * 52, "0" * 52]
)
def test_what_is_no_token(text: str) -> None:
    assert tokens.read(text) is None


def test_a_cookie() -> None:
    value = tokens.make_cookie()
    assert tokens.cookie_hash(value) == hashlib.sha256(value.encode()).digest()
    for text in ("", value[:-1], value.upper().replace("0", "A"), value + "\n", "g" * 64):
        assert tokens.cookie_hash(text) is None


def test_roles() -> None:
    assert [role_of(word) for word in ("viewer", "user", "maintainer", "admin")] == [
        Role.VIEWER,
        Role.MAINTAINER,
        Role.MAINTAINER,
        Role.ADMIN,
    ]
    assert role_of("root") is role_of("Admin") is role_of("") is role_of("public") is None
    assert OPERATOR.may(Role.ADMIN)
    assert OPERATOR.user_id is None
    assert not Subject(name="v", role=Role.VIEWER, provider="local").may(Role.MAINTAINER)
