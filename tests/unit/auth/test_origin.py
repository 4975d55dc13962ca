"""Which requests come from our own pages, and where a browser may be sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gocdnext.auth.origin import is_ours, is_related, local_target


@pytest.mark.parametrize(
    ("fetch_site", "origin", "ours"),
    [
        (None, None, True),
        ("same-origin", None, True),
        ("none", None, True),
        ("same-origin", "https://evil.example", True),  # the browser has judged; a page cannot set this header
        ("same-site", None, False),
        ("cross-site", "https://ci.acme.example", False),
        (None, "https://ci.acme.example", True),
        (None, "HTTPS://CI.acme.example", True),
        (None, "http://10.0.0.7:8153", True),
        (None, "https://10.0.0.7:8153", True),
        (None, "http://10.0.0.7", False),
        (None, "http://ci.acme.example", False),
        (None, "https://ci.acme.example.evil.example", False),
        (None, "https://ci.acme.example:444", False),
        (None, "null", False),
        (None, "", False),
        (None, "http://[", False),
    ],
)
def test_is_ours(fetch_site: str | None, origin: str | None, ours: bool) -> None:
    found = is_ours(fetch_site=fetch_site, origin=origin, host="10.0.0.7:8153", public_base="https://ci.acme.example")
    assert found is ours


def test_without_host_and_public_address_no_origin_is_ours() -> None:
    for origin in ("", "null", "http://x", "//"):
        assert not is_ours(fetch_site=None, origin=origin, host="", public_base="")


@pytest.mark.parametrize(
    ("said", "target"),
    [
        ("/", "/"),
        ("/runs/7?tab=log&x=//y", "/runs/7?tab=log&x=//y"),
        ("/a:b", "/a:b"),
        ("", "/"),
        ("runs", "/"),
        ("//evil", "/"),
        ("///evil", "/"),
        ("/\\evil", "/"),
        ("/\n/evil", "/"),
        ("/\t/evil", "/"),
        (" /x", "/"),
        ("https:evil", "/"),
        ("/" + "x" * 2000, "/"),
    ],
)
def test_local_target(said: str, target: str) -> None:
    assert local_target(said) == target


@given(st.text())
def test_a_target_never_leaves_this_server(said: str) -> None:
    found = local_target(said)
    assert found.startswith("/")
    assert not found.startswith(("//", "/\\"))
    assert found.isprintable()


@pytest.mark.parametrize(
    ("origin", "host", "base", "related"),
    [
        ("http://localhost:3000", "localhost:8153", "", True),
        ("http://127.0.0.1:3000", "localhost:8153", "", True),
        ("http://[::1]:3000", "127.0.0.1:8153", "", True),
        ("https://ci.acme.example:8443", "ci.acme.example", "", True),
        ("https://CI.acme.example.", "10.0.0.7:8153", "https://ci.acme.example", True),
        ("https://acme.example", "ci.acme.example", "", True),
        ("https://web.ci.acme.example", "ci.acme.example", "", True),
        ("https://other.acme.example", "ci.acme.example", "", False),
        ("https://evil-ci.acme.example", "ci.acme.example", "", False),
        ("https://ci.acme.example.evil.example", "ci.acme.example", "", False),
        ("https://example", "ci.acme.example", "", False),
        ("http://1.10.0.0.7", "10.0.0.7:8153", "", False),
        ("http://[fe80::1]", "[fe80::2]:8153", "", False),
        ("http://[fe80::2]", "[fe80::2]:8153", "", True),
        ("null", "localhost", "", False),
        ("file://", "localhost", "", False),
        ("chrome-extension://localhost", "localhost", "", False),
        ("", "", "", False),
        ("http://[", "localhost", "", False),
    ],
)
def test_is_related(origin: str, host: str, base: str, related: bool) -> None:
    assert is_related(origin=origin, host=host, public_base=base) is related
