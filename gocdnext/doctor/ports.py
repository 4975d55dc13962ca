"""The two ports of the server: ours already, free to be taken, or held by somebody else, and by whom."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from gocdnext.config import Address, format_address
from gocdnext.doctor.findings import Finding, fail, ok, skipped
from gocdnext.doctor.ground import Ground

_LISTENS = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def ports(ground: Ground) -> Iterator[Finding]:
    """HTTP and agents."""
    if not ground.own:
        yield skipped("ports", f"run doctor as the user of the server (process {ground.server_pid}) or as root")
        return
    yield _port("HTTP port", "GOCDNEXT_HTTP_ADDR", ground.settings.http_addr, ground.server_pid)
    yield _port("agent port", "GOCDNEXT_GRPC_ADDR", ground.settings.grpc_addr, ground.server_pid)


def _port(name: str, variable: str, address: Address, server: int | None) -> Finding:
    where = format_address(address)
    if address[1] == 0:
        return skipped(name, f"{where}: any free one is taken")
    error = _trouble(address)
    if error is None:
        if server is None:
            return ok(name, f"{where} is free")
        advice = "Look at its log: it starts or stops, or waits for its database (journalctl -u gocdnext)."
        return fail(name, f"a server runs (process {server}), but nobody listens on {where}", advice)
    if error == errno.EADDRINUSE:
        holder = holder_of(address[1])
        if server is not None and (holder is None or holder == server):
            return ok(name, f"{where} is held by the server (process {server})")
        who = f"process {holder} ({_program(holder)})" if holder else "a process of another user (run doctor as root)"
        return fail(name, f"{where} is held by {who}", f"Stop it, or choose another port with {variable}.")
    if error == errno.EACCES:
        advice = f"Choose a port above 1023 with {variable} and put a proxy before it, or give the unit CAP_NET_BIND_SERVICE."
        return fail(name, f"{where}: this user may not listen there", advice)
    return fail(name, f"{where}: {os.strerror(error)}", f"Correct {variable}: this machine does not have that address.")


def _trouble(address: Address) -> int | None:
    """Why nobody could listen there, as an error number. Nothing listens while this looks."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    except OSError:
        return errno.EADDRNOTAVAIL
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
        except OSError as error:
            return error.errno
    return None


def holder_of(port: int) -> int | None:
    """The process that listens on a TCP port, as far as this user may see it."""
    wanted = {f"socket:[{inode}]" for inode in _listening(port)}
    for entry in os.listdir("/proc") if wanted else ():
        if entry.isdecimal():
            with contextlib.suppress(OSError), os.scandir(f"/proc/{entry}/fd") as files:
                for file in files:
                    if os.readlink(file.path) in wanted:
                        return int(entry)
    return None


def _listening(port: int) -> Iterator[str]:
    """Inodes of the sockets that listen on it."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/self/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _program(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    return "gone by now"
