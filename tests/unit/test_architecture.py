"""Imports go one way (design section 4), and the pure parts import nothing that does I/O."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "gocdnext"

# Rooms by height: a room may import its own level's allowance and everything on lower levels, never a higher one.
LEVELS = (
    {"cli", "server"},
    {"api", "web", "fleet", "sweepers", "agent", "local_agent", "local", "doctor"},
    {
        "projects",
        "materials",
        "runs",
        "logs",
        "blobs",
        "audit",
        "auth",
        "backup",
        "secrets",
        "metrics",
        "importers",
        "client",
        "plugins",
        "forges",
        "reports",
        "disks",
        "retention",
        "sweeps",
    },
    {"pipeline", "db", "config", "outbound", "proto", "journal", "systemd", "tracing", "otlp"},
    {"durations", "errors", ""},
)
HEIGHT = {room: len(LEVELS) - level for level, rooms in enumerate(LEVELS) for room in rooms}

PURE = (
    "durations", "pipeline", "importers", "local/plan.py", "local/envfile.py",
    *(f"runs/{name}.py" for name in (
        "assignment", "cancelling", "cascade", "dispatch", "events", "execution", "expansion", "fetching", "gates",
        "governance", "identity",
        "planning", "ports", "rerun", "state", "transitions", "waiting",
    )),
)  # fmt: skip
IO_MODULES = {
    "asyncio", "asyncpg", "grpclib", "http", "httpx", "hypercorn", "os", "pathlib", "quart", "quart_trio", "requests",
    "select", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "trio",
    "trio_asyncio", "triopg", "urllib",
}  # fmt: skip
HARMLESS = {"urllib.parse"}


def room(path: Path) -> str:
    """`api` for gocdnext/api/app.py, `server` for gocdnext/server/main.py, empty for gocdnext/__init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every imported module with its line, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "_pb2" not in path.name)


def test_every_room_has_a_level() -> None:
    assert {room(path) for path in modules()} <= set(HEIGHT)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    here = room(path)
    wrong = []
    for name, line in imports(path):
        parts = name.split(".")
        there = parts[1] if parts[0] == "gocdnext" and len(parts) > 1 and parts[1] in HEIGHT else ""
        if parts[0] == "gocdnext" and here != there and HEIGHT[there] > HEIGHT[here]:
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong


@pytest.mark.parametrize(
    "path", [path for path in modules() if str(path.relative_to(PACKAGE)).startswith(PURE)], ids=str
)
def test_pure_modules_do_no_io(path: Path) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for name, line in imports(path)
        if name.split(".")[0] in IO_MODULES and not any(name.startswith(allowed) for allowed in HARMLESS)
    ]
    assert not wrong


def test_the_command_line_talks_http_only() -> None:
    """Only serve, agent, admin, backup, restore and doctor reach beyond the client (design 4)."""
    allowed = {
        "serve.py": {"gocdnext.server", "gocdnext.agent", "gocdnext.durations"},
        "doctor.py": {"gocdnext.doctor", "gocdnext.journal"},
        "beside.py": {"gocdnext.config", "gocdnext.db", "gocdnext.journal"},
        "backup.py": {"gocdnext.backup", "gocdnext.blobs", "gocdnext.config", "gocdnext.db", "gocdnext.journal"},
        "admin.py": {"gocdnext.secrets", "gocdnext.auth", "gocdnext.config", "gocdnext.db", "gocdnext.journal"},
        "about.py": {"gocdnext.config", "gocdnext.agent.config"},
        "manual.py": {"gocdnext.config", "gocdnext.agent.config"},
        "local.py": {"gocdnext.local", "gocdnext.pipeline", "gocdnext.agent.config"},
        "validate.py": {"gocdnext.pipeline", "gocdnext.plugins", "gocdnext.projects.supported"},
        "language.py": {"gocdnext.pipeline", "gocdnext.importers"},
    }
    common = {"gocdnext.cli", "gocdnext.client", "gocdnext.__version__", "gocdnext.errors", "gocdnext.durations"}
    for path in (PACKAGE / "cli").glob("*.py"):
        for name, line in imports(path):
            known = common | allowed.get(path.name, set())
            assert not name.startswith("gocdnext") or any(name.startswith(each) for each in known), f"{path}:{line}"
