"""Which addresses are inside, and how operators name hosts."""

from __future__ import annotations

import ipaddress

import pytest

from gocdnext.outbound.hosts import Hosts, is_outside


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254",  # metadata of most clouds
        "100.100.100.200", "168.63.129.16", "192.0.0.192",  # of three more
        "100.64.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1",
        "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
    ],
)  # fmt: skip
def test_what_is_inside(address: str) -> None:
    assert not is_outside(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "140.82.121.4", "2606:4700::1", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_what_is_outside(address: str) -> None:
    assert is_outside(ipaddress.ip_address(address))


def test_a_list_names_hosts_domains_addresses_and_networks() -> None:
    hosts = Hosts.parse("git.corp.example, *.in.example .also.example 10.1.0.0/16,127.0.0.1,fd00::/8")
    assert hosts.has_name("GIT.corp.example.")
    assert hosts.has_name("a.b.in.example")
    assert hosts.has_name("x.also.example")
    assert hosts.has_name("10.1.2.3")
    assert hosts.has_name("[fd00::1]")
    assert hosts.has_address(ipaddress.ip_address("::ffff:127.0.0.1"))
    for other in ("in.example", "evilin.example", "xgit.corp.example", "git.corp.example.evil.example", "10.2.0.1"):
        assert not hosts.has_name(other)
    assert not hosts.has_address(ipaddress.ip_address("127.0.0.2"))


def test_an_empty_list_names_nobody_and_a_star_everybody() -> None:
    assert not Hosts.parse("").has_name("example.org")
    assert Hosts.parse("*").has_name("example.org")


@pytest.mark.parametrize("entry", ["http://host", "10.0.0.0/33", "host:80", "a*.example", "10.0.0.0/16/8"])
def test_an_entry_that_cannot_be_meant_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        Hosts.parse(f"good.example,{entry}")
    assert str(refused.value) == entry
