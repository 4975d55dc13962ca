"""The archive for a bug report. It holds what this module chooses, and all of that goes through the scrubber: no table's
rows, no file of a job, no environment, no key.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import httpx
import orjson

from gocdnext import __version__
from gocdnext.agent.config import TABLE
from gocdnext.config import VARIABLES
from gocdnext.doctor.ground import Ground
from gocdnext.doctor.rounds import Asked, Round
from gocdnext.doctor.scrub import STRUCK, Scrubber, secrets_in_files, secrets_of
from gocdnext.doctor.web import without_password

LOG_LINES, LOG_BYTES = 2000, 2 * 1024 * 1024
"""Of the end of each log."""
LONGEST_LINE = 2000
METRICS_BYTES = 4 * 1024 * 1024
FETCH_WITHIN = 5.0
JOURNAL_WITHIN = 10.0
"""Seconds."""
SHOWN_KINDS = frozenset(
    {
        "path",
        "paths",
        "host:port",
        "number",
        "word",
        "true or false",
        "duration",
        "addresses",
        "int",
        "bool",
        "size",
        "text",
    }
)
"""Settings whose value is shown; of others only that they are set."""
QUOTING = ("STATEMENT:", "DETAIL:", "CONTEXT:", "QUERY:", "HINT:", "PARAMETERS:", "parameters:")
"""Lines of PostgreSQL's log that quote what somebody has written or stored."""


def write(file: Path, asked: Asked, found: Round, log: Path | None) -> list[str]:
    """Writes the archive, readable by this user alone, and gives the names in it. Raises OSError; never overwrites."""
    scrubber = _scrubber(asked, found.ground)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    names = []
    with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, content in _contents(asked, found, log, scrubber):
            entry = tarfile.TarInfo(f"gocdnext-doctor/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(datetime.now(UTC).timestamp()), 0o600
            archive.addfile(entry, io.BytesIO(content))
            names.append(name)
    return names


def _scrubber(asked: Asked, ground: Ground | None) -> Scrubber:
    environments = (asked.environ, ground.environ if ground is not None else {})
    known = chain.from_iterable(map(secrets_of, environments))
    files = secrets_in_files(ground.state) if ground is not None else ()
    return Scrubber(chain(known, files, (asked.token,) if asked.token else ()))


def _contents(asked: Asked, found: Round, log: Path | None, scrubber: Scrubber) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each part, scrubbed."""

    def document(value: object) -> bytes:
        return orjson.dumps(scrubber.document(value), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    environ = found.ground.environ if found.ground is not None else asked.environ
    yield "versions.json", document(_versions(found))
    yield "settings.json", orjson.dumps(_settings(environ, scrubber), option=orjson.OPT_INDENT_2)
    yield (
        "findings.json",
        document([{**_finding(each), "seconds": one.seconds} for one in found.examined for each in one.findings]),
    )
    yield "tables.json", document([{**table, "vacuumed": str(table.get("vacuumed"))} for table in found.tables])
    for name, text in _logs(found.ground, log):
        yield name, "".join(f"{line}\n" for line in _lines(text, scrubber)).encode()
    metrics = _metrics(asked.url) if asked.with_server else None
    if metrics is not None:
        yield "metrics.txt", scrubber.text(metrics).encode()


def _versions(found: Round) -> dict[str, object]:
    return {
        "gocdnext": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "schema": found.schema,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "server_runs": bool(found.ground and found.ground.server_pid),
    }


def _finding(finding: object) -> dict[str, str]:
    return {name: str(getattr(finding, name)) for name in ("name", "status", "found", "advice")}


def _settings(environ: Mapping[str, str], scrubber: Scrubber) -> dict[str, str]:
    """Every setting that is set, by its kind: secrets as `(set)`, urls without user and password."""
    kinds = {each.name: each.kind for each in VARIABLES} | {each.name: each.type for each in TABLE}
    kinds |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "url")
    shown = {}
    for name, kind in kinds.items():
        value = environ.get(name, "")
        if not value:
            continue
        if kind == "url":
            shown[name] = scrubber.text(without_password(value))
        else:
            shown[name] = scrubber.text(value) if kind in SHOWN_KINDS and not name.endswith("_TOKEN") else "(set)"
    return shown


def _logs(ground: Ground | None, log: Path | None) -> Iterator[tuple[str, str]]:
    """(name, text) of the end of each log that may be read."""
    text = _end_of(log) if log is not None else _journal()
    if text:
        yield "server.log", text
    if ground is not None:
        text = _end_of(ground.state / "log" / "postgres.log")
        if text:
            yield "postgres.log", text


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            return file.read(LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _journal() -> str:
    """What systemd has kept of the server's log, if it serves there."""
    if shutil.which("journalctl") is None:
        return ""
    command = ["journalctl", "--unit=gocdnext", f"--lines={LOG_LINES}", "--output=cat", "--no-pager", "--quiet"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=JOURNAL_WITHIN, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout[-LOG_BYTES:].decode("utf-8", "replace")


def _lines(text: str, scrubber: Scrubber) -> Iterator[str]:
    """Lines of a log, scrubbed: our own by their fields, those of PostgreSQL without what they quote."""
    quoted = False
    for line in text.splitlines()[-LOG_LINES:]:
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            event = None
        if isinstance(event, dict):
            yield orjson.dumps(_event(event, scrubber)).decode()[:LONGEST_LINE]
            continue
        # What was quoted over several lines goes on with a tab.
        quoted = any(word in line for word in QUOTING) or (quoted and line.startswith("\t"))
        yield STRUCK if quoted else scrubber.text(line[:LONGEST_LINE])


def _event(event: dict[str, object], scrubber: Scrubber) -> dict[str, object]:
    """One event. Our own ids stay whole: they are long words, too, and what one looks for."""
    shown = scrubber.document(event)
    assert isinstance(shown, dict)
    for name in ("request_id", "trace_id"):
        if isinstance(event.get(name), str) and str(event[name]).isalnum() and len(str(event[name])) == 32:
            shown[name] = event[name]
    return shown


def _metrics(url: str) -> str | None:
    try:
        with httpx.stream("GET", f"{url}/metrics", timeout=FETCH_WITHIN) as answer:
            if answer.status_code != httpx.codes.OK:
                return None
            text = b""
            for part in answer.iter_bytes():
                text += part
                if len(text) > METRICS_BYTES:
                    break
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    return text.decode("utf-8", "replace")
