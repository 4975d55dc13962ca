"""What is believed of whom a provider vouches for: e-mails, domains, names, pictures (contract-admin 1.2, 2.3)."""

from __future__ import annotations

from typing import Any

import pytest

from gocdnext.auth.providers import profile as profiles
from gocdnext.auth.providers import proof
from gocdnext.auth.providers.errors import RejectedError
from gocdnext.auth.providers.github import web_base
from gocdnext.auth.providers.kinds import address


def profile(**more: Any) -> profiles.Profile:
    said: dict[str, Any] = {"subject": "1", "email": "rita@acme.example", "names": ("Rita",), "avatar": ""}
    return profiles.profile(issuer="https://sso.acme.example", **(said | more))


@pytest.mark.parametrize(
    ("email", "is_allowed"),
    [
        ("rita@acme.example", True),
        ("Rita@ACME.Example", True),
        ("rita@other.example", True),
        ("rita@evil-acme.example", False),
        ("rita@acme.example.evil.example", False),
        ("rita@sub.acme.example", False),
        ("rita@acme.example@evil.example", False),
        ("rita@evil.example@acme.example", True),
        ("rita@acme.example.", False),
        ("rita@.acme.example", False),
        ("rita@acme.exampl\u0435", False),
        ("rita@\u212acme.example", False),
        ("acme.example", True),
        ("rita@", False),
        ("", False),
    ],
)
def test_domains_are_compared_whole(email: str, is_allowed: bool) -> None:
    # `acme.example` alone is no e-mail: `profile` has refused it before.
    assert profiles.is_allowed(email, ["acme.example", "other.example", "kcme.example"]) is is_allowed
    assert profiles.is_allowed(email, [])


@pytest.mark.parametrize(
    "email",
    [
        None,
        7,
        "",
        " ",
        "rita",
        "@acme.example",
        "rita@",
        "ri ta@acme.example",
        "rita@acme.example\r\nBcc: x@y.z",
        "rita@acme.example\nX",
        "rita\0@acme.example",
        "r" * 320 + "@acme.example",
        "rita@\ud800",
    ],
)
def test_what_is_no_email(email: object) -> None:
    with pytest.raises(RejectedError, match="email/subject missing"):
        profile(email=email)


@pytest.mark.parametrize("subject", [None, 7, "", "x" * 256, "a\nb", "a\0", ["x"]])
def test_what_is_no_subject(subject: object) -> None:
    with pytest.raises(RejectedError, match="email/subject missing"):
        profile(subject=subject)


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (("Rita Moss", "rmoss"), "Rita Moss"),
        ((None, "rmoss"), "rmoss"),
        (("", " \r\n", 7), "rita@acme.example"),
        (("Rita\r\nSet-Cookie: gocdnext_session=x",), "Rita Set-Cookie: gocdnext_session=x"),
        (("\x1b]8;;http://evil\x07Rita",), "]8;;http://evil Rita"),
        (("\u202eatiR", "x"), "atiR"),
        (("x" * 999,), "x" * 200),
        (("Ri\ud800ta\0",), "Ri ta"),
    ],
)
def test_names_are_one_line_that_does_nothing(names: tuple[object, ...], kept: str) -> None:
    assert profile(names=names).name == kept


@pytest.mark.parametrize(
    ("avatar", "kept"),
    [
        ("https://img.acme.example/rita.png?s=1", True),
        ("javascript:alert(1)", False),
        ("data:image/svg+xml,x", False),
        ("//img.acme.example/x", False),
        ('https://img.example/"onerror=x', False),
        ("https://img.example/\n", False),
        ("https://[", False),
        ("https://img.example/" + "x" * 2000, False),
        (None, False),
        (7, False),
    ],
)
def test_pictures_are_plain_addresses(avatar: object, kept: bool) -> None:
    assert bool(profile(avatar=avatar).avatar_url) is kept


def test_an_email_is_kept_as_it_is_written() -> None:
    assert profile(email=" Rita@Acme.example ").email == "Rita@Acme.example"
    assert profiles.fold(" Rita@Acme.example ") == "rita@acme.example"


def test_the_two_values_of_a_sign_in_make_all_that_it_needs() -> None:
    made = proof.make()
    again = proof.read(made.state, made.browser)
    assert again == made
    assert again.nonce == made.nonce
    assert len(made.verifier) == len(made.challenge) == 43
    other = proof.Proof(made.state, proof.make().browser)
    assert len({made.nonce, made.verifier, made.challenge, made.state, made.browser, other.nonce, other.verifier}) == 7
    for state, browser in (
        ("", made.browser),
        (made.state.upper(), made.browser),
        (made.state, "x"),
        (made.state, "é"),
    ):
        assert proof.read(state, browser) is None
    assert made.browser not in repr(made)
    assert made.state not in repr(made)


def test_where_github_is() -> None:
    assert web_base("https://api.github.com") == "https://github.com"
    assert web_base("https://api.acme.ghe.com") == "https://acme.ghe.com"
    assert web_base("https://git.acme.example/api/v3") == "https://git.acme.example"
    assert web_base("http://127.0.0.1:9") == "http://127.0.0.1:9"


def test_parameters_are_added_to_those_that_are_there() -> None:
    assert address("https://a/b?x=1#f", {"y": "2 &"}) == "https://a/b?x=1&y=2+%26"
