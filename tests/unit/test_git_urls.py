"""Urls of repositories: every spelling of one is one (contract-admin 8.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gocdnext.pipeline.fingerprints import git_fingerprint, normal_git_url

NAMES = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_.~", min_size=1, max_size=20).filter(
    lambda name: not name.endswith(".git") and name.strip(".") != ""
)
HOSTS = st.builds(".".join, st.lists(st.text("abcdefXYZ0123456789", min_size=1, max_size=10), min_size=1, max_size=4))
PORTS = st.sampled_from(["", ":8443", ":22"])
USERS = st.sampled_from(["", "git@", "u:p@", "x-access-token:abc@"])
ENDS = st.sampled_from(["", "/", ".git", ".git/", "//"])
SCHEMES = st.sampled_from(["https", "http", "ssh", "git", "HTTPS"])
BLANKS = st.sampled_from(["", " ", "\n", "\t "])


@given(SCHEMES, USERS, HOSTS, PORTS, st.lists(NAMES, min_size=1, max_size=4), ENDS, BLANKS)
def test_spellings_of_one_repository(
    scheme: str, user: str, host: str, port: str, path: list[str], end: str, blank: str
) -> None:
    expected = f"{host.lower()}{port}/{'/'.join(path)}"
    assert normal_git_url(f"{blank}{scheme}://{user}{host}{port}/{'/'.join(path)}{end}{blank}") == expected
    if not port:
        assert normal_git_url(f"git@{host}:{'/'.join(path)}{end}") == expected
        assert normal_git_url(f"git@{host}:/{'/'.join(path)}{end}") == expected


@given(SCHEMES, USERS, HOSTS, NAMES, ENDS)
def test_the_normal_form_is_normal(scheme: str, user: str, host: str, name: str, end: str) -> None:
    once = normal_git_url(f"{scheme}://{user}{host}/{name}{end}")
    assert normal_git_url(f"https://{once}") == once


@given(st.text(max_size=200), st.text(max_size=50))
def test_any_text_has_a_normal_form_and_a_fingerprint(url: str, branch: str) -> None:
    assert isinstance(normal_git_url(url), str)
    assert len(git_fingerprint(url, branch)) == 64


@given(HOSTS, NAMES, NAMES, NAMES)
def test_different_repositories_and_branches_are_told_apart(host: str, path: str, one: str, other: str) -> None:
    url = f"https://{host}/{path}"
    assert (git_fingerprint(url, one) == git_fingerprint(url, other)) == (one == other)
    assert git_fingerprint(url, one) != git_fingerprint(f"{url}x", one)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://u:t@Git.Acme.Example/Shop/cart.git/", "git.acme.example/Shop/cart"),
        ("git@git.acme.example:Shop/cart.git", "git.acme.example/Shop/cart"),
        ("ssh://git@Host:2222/a/B", "host:2222/a/B"),
        ("/srv/git/cart.git", "/srv/git/cart"),
        ("https://h/a.git.git", "h/a.git"),
    ],
)
def test_examples(url: str, normal: str) -> None:
    assert normal_git_url(url) == normal
