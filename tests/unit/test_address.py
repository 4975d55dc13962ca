"""Whose word about the address of a caller counts."""

from __future__ import annotations

from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest
from werkzeug.datastructures import Headers

from gocdnext import config
from gocdnext.api.address import client_address
from gocdnext.config import ConfigError

PROXIES = (ip_network("10.0.0.0/24"), ip_network("2001:db8::7/128"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", "1.1.1.1", "203.0.113.9"),
        ("127.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("127.0.0.1", "9.9.9.9, 1.1.1.1", "1.1.1.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "nonsense", "127.0.0.1"),
        ("10.0.0.7", "9.9.9.9, 1.1.1.1", "1.1.1.1"),
        ("10.0.0.7", "9.9.9.9, 1.1.1.1, 10.0.0.8", "1.1.1.1"),
        ("10.0.0.7", "10.0.0.9", "10.0.0.9"),
        ("10.0.1.7", "1.1.1.1", "10.0.1.7"),
        ("2001:db8::7", "2001:db8::99", "2001:db8::99"),
        ("", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.7", "x\r\ny", "10.0.0.7"),
    ],
)
def test_client_address(peer: str, forwarded: str, address: str) -> None:
    headers = Headers()
    if forwarded.isprintable():
        headers["X-Forwarded-For"] = forwarded
    request: Any = SimpleNamespace(scope={"client": (peer, 1)}, headers=headers)
    assert client_address(request, PROXIES) == address


def test_the_setting() -> None:
    assert (
        config.load({"HOME": "/x", "GOCDNEXT_TRUSTED_PROXIES": "10.0.0.0/24, 2001:db8::7"}).trusted_proxies == PROXIES
    )
    with pytest.raises(ConfigError, match=r"GOCDNEXT_TRUSTED_PROXIES: .* expected for example 10\.0\.0\.7"):
        config.load({"HOME": "/x", "GOCDNEXT_TRUSTED_PROXIES": "proxy.example"})
