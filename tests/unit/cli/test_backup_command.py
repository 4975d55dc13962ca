"""`backup`: what it cannot do is said before anything is begun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


def test_blobs_in_a_bucket_are_not_left_out_in_silence(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOCDNEXT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("GOCDNEXT_ARTIFACTS_BACKEND", "s3")
    for name in ("BUCKET", "ACCESS_KEY", "SECRET_KEY"):
        monkeypatch.setenv(f"GOCDNEXT_ARTIFACTS_S3_{name}", "made-up")
    found = call("backup", str(tmp_path / "made.tar"))
    assert (found.code, "--blobs list" in found.err) == (1, True)
    assert not (tmp_path / "made.tar").exists()
