"""The program's own log is one line for an event, whatever is in it (anchors E 19)."""

from __future__ import annotations

import json
import subprocess
import sys

FORGED = 'a\n{"event": "forged", "level": "info"}\r\x1b[2J\u2028\x00'


def test_nothing_in_an_event_can_make_another_line() -> None:
    program = (
        "import structlog, logging; from gocdnext import journal; journal.configure('info')\n"
        f"said = {FORGED!r}\n"
        "structlog.get_logger('x').info(said, name=said, **{'k': [said]})\n"
        "logging.getLogger('library').warning('%s', said)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    lines = done.stdout.split(b"\n")[:-1]
    assert [json.loads(line)["event"] for line in lines] == [FORGED, FORGED]
    assert json.loads(lines[0])["name"] == FORGED
    for control in (b"\r", b"\x1b", b"\x00"):
        assert control not in done.stdout
