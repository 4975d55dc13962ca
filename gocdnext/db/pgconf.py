"""The text of PostgreSQL's three configuration files (embedded-postgres A6), and how much memory there is.

Durability is never up for tuning: fsync, synchronous_commit and full_page_writes are on.
"""

from __future__ import annotations

import os
from pathlib import Path

from gocdnext.db.binaries import Binaries
from gocdnext.db.serviceuser import ServiceUser

MIB = 1024 * 1024
SMALLEST_BUFFERS = 32 * MIB
LARGEST_BUFFERS = 512 * MIB
SPARE_CONNECTIONS = 10
"""Connections beside the pool: listener, migrations, watchdog, `doctor`, `backup`, and a person with psql."""
DATABASE_USER = "ci"
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory_bytes() -> int:
    """The memory that this machine, or the container's limit, allows."""
    amount = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        try:
            text = path.read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if text.isdigit():
            amount = min(amount, int(text))
    return amount


def shared_buffers(memory: int) -> int:
    """Bytes of shared buffers for a machine with `memory` bytes: a sixteenth, within bounds."""
    return min(max(memory // 16, SMALLEST_BUFFERS), LARGEST_BUFFERS)


def postgresql_conf(binaries: Binaries, *, pool_size: int, memory: int, hba: Path, ident: Path, sockets: Path) -> str:
    """`postgresql.conf`, written at every start."""
    settings = {
        "hba_file": _quoted(hba),
        "ident_file": _quoted(ident),
        "listen_addresses": "''",
        "unix_socket_directories": _quoted(sockets),
        "unix_socket_permissions": "0700",
        "max_connections": str(pool_size + SPARE_CONNECTIONS),
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "shared_buffers": f"{shared_buffers(memory) // MIB}MB",
        # The default of a thirty-second part is written to, and so paid for, at every start.
        "wal_buffers": "4MB",
        "max_wal_size": "1GB",
        "max_worker_processes": "4",
        "max_parallel_workers_per_gather": "0",
        "max_wal_senders": "4",
        "max_logical_replication_workers": "0",
        "jit": "off",
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
        "lc_messages": "'C'",
        "logging_collector": "off",
        "log_destination": "stderr",
        "log_line_prefix": "'%m [%p] '",
        "log_checkpoints": "off",
        # DETAIL lines quote rows: what is stored has no business in a log file.
        "log_error_verbosity": "terse",
    }
    if binaries.major >= 18:
        settings["io_method"] = "sync"
    lines = [f"{name} = {value}" for name, value in settings.items()]
    return "\n".join(["# Written by gocdnext at every start: changes made here are lost.", *lines, ""])


def pg_hba_conf() -> str:
    """`pg_hba.conf`: the unix socket, by who the peer is; no TCP."""
    return f"local all {DATABASE_USER} peer map=ciapp\n"


def pg_ident_conf(user: ServiceUser) -> str:
    """`pg_ident.conf`: the user that runs PostgreSQL, and root when that is us."""
    users = [user.name, "root"] if user.dropped else [user.name]
    return "".join(f'ciapp "{name}" {DATABASE_USER}\n' for name in users)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("\\", "\\\\").replace("'", "''") + "'"
