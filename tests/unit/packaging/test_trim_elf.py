"""Trimming of compiled modules: what is left still loads, and what is not one stays as it is."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def trim_elf() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trim_elf", ROOT / "packaging" / "trim_elf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_trimmed_module_is_smaller_and_loads(trim_elf: ModuleType, tmp_path: Path) -> None:
    found = importlib.util.find_spec("multidict._multidict")
    assert found is not None
    assert found.origin is not None
    copy = Path(shutil.copy(found.origin, tmp_path))
    before = copy.stat()
    saved = trim_elf.trim(copy)
    assert saved > 0
    assert copy.stat().st_size == before.st_size - saved
    assert copy.stat().st_mode == before.st_mode
    assert trim_elf.trim(copy) == 0
    program = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('multidict._multidict', sys.argv[1]);"
        "m = u.module_from_spec(s); s.loader.exec_module(m); d = m.MultiDict(a=1); d.add('a', 2); print(d.getall('a'))"
    )
    done = subprocess.run([sys.executable, "-c", program, copy], capture_output=True, text=True, check=True)
    assert done.stdout == "[1, 2]\n"


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(100)])
def test_what_is_no_module_stays_as_it_is(trim_elf: ModuleType, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert trim_elf.trim(file) == 0
    assert file.read_bytes() == content
