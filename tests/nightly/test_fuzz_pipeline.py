"""A minute of mutated pipeline files: whatever comes in, a pipeline or problems come out, and soon.

Run by `python3 build.py nightly`. GOCDNEXT_TEST_SEED repeats a run; the seed is in the message of a failure.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from pathlib import Path

import pytest

from gocdnext.pipeline import PipelineError, Problem, check_file, parse_file

pytestmark = pytest.mark.nightly
SECONDS = 60
LONGEST = 2.0
"""Processor seconds for one file, far above the goal, so that a busy machine is no failure."""
VECTORS = Path(__file__).parents[1] / "vectors" / "pipelines"
PIECES = [
    b"&a ", b"*a", b"<<: *a", b"- ", b": ", b"{", b"}", b"[", b"]", b"\n", b"\t", b"\x00", b"\xef\xbb\xbf", b"\r\n",
    b"\xff", b"${{ ", b" }}", b"${{ needs.a.outputs.b }}", b'{{ hash "', b"!!python/object:os.system ", b"!!int ",
    b"!!binary ", b"---\n", b"|\n", b">-\n", b'"', b"'", b"? ", b"%YAML 9.9\n", b"on: yes\n", b"~", b"0x1F", b"1_000",
    b".inf", b"\xed\xa0\x80", b"a" * 5000,
]  # fmt: skip


def test_nothing_but_pipelines_and_problems() -> None:
    seed = os.environ.get("GOCDNEXT_TEST_SEED") or secrets.token_hex(8)
    chance = random.Random(seed)
    files = [path.read_bytes() for path in sorted(VECTORS.glob("*.yaml"))]
    end, tried = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        data = mutated(chance, files)
        started = time.process_time()
        told: tuple[Problem, ...] | None = None
        try:
            check_file(parse_file(data, "fuzz.yaml"))
        except PipelineError as error:
            told = error.problems
        except Exception as error:
            raise AssertionError(f"seed {seed}, after {tried} files: {data[:2000]!r}") from error
        assert told is None or told, "a refusal says why"
        took = time.process_time() - started
        assert took < LONGEST, f"seed {seed}: {took:.1f} s for {data[:2000]!r}"
        tried += 1
    assert tried > 100


def mutated(chance: random.Random, files: list[bytes]) -> bytes:
    """A vector with some damage: cut, spliced with another, bytes flipped, pieces of the language put in."""
    data = bytearray(chance.choice(files))
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data[at:at] = chance.choice(PIECES)
            case 1:
                del data[at : at + chance.randint(1, 40)]
            case 2:
                other = chance.choice(files)
                data[at:at] = other[chance.randrange(len(other) or 1) :]
            case 3 if at < len(data):
                data[at] = chance.randrange(256)
            case _:
                data[at:at] = data[at : at + chance.randint(1, 200)] * chance.randint(1, 20)
    return bytes(data[:1_000_000])
