"""The whole way as an operator goes it: a backup of a running server, proved, restored elsewhere, moved, and served again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import httpx
import pytest

from tests.e2e.product import Product

pytestmark = pytest.mark.slow

PASSPHRASE = "correct horse battery"
FILES = [
    {
        "name": "ci.yaml",
        "content": "name: ci\nmaterials: [{manual: true}]\nstages: [a]\njobs: {j: {stage: a, script: [x]}}\n",
    }
]


def test_a_server_comes_back_from_its_backup(product: Product, public_dir: Path) -> None:
    product.environment["GOCDNEXT_BACKUP_PASSPHRASE"] = PASSPHRASE
    assert "no state directory" in product.call("backup", "--state", product.state, "x.tar", check=False).stderr
    product.start()
    body = {"slug": "acme", "name": "Acme", "files": FILES}
    httpx.post(f"{product.url}/api/v1/projects/apply", json=body).raise_for_status()
    secret = {"name": "TOKEN", "value": "hush-hush-hush"}
    httpx.post(f"{product.url}/api/v1/projects/acme/secrets", json=secret).raise_for_status()
    file = public_dir / "ci.tar"
    arguments = ("backup", "--state", product.state, "--with-keys")
    taken = json.loads(product.call(*arguments, file, "--json").stdout)
    assert (taken["keys"], len(taken["sealed_with"])) == (True, 1)
    again = product.call(*arguments, file, check=False)
    assert (again.returncode, "is there already" in again.stderr) == (1, True)
    content = file.read_bytes()
    assert b"hush-hush-hush" not in content
    assert (product.state / "secrets.key").read_bytes() not in content
    assert json.loads(product.call("backup", "verify", file, "--json").stdout)["keys_fit"] is True
    used = product.call("restore", "--state", product.state, file, check=False)
    assert (used.returncode, "is in use" in used.stderr) == (1, True)
    assert product.ready()
    running = product.call("admin", "upgrade-database", "--state", product.state, check=False)
    assert (running.returncode, "is running on" in running.stderr) == (3, True)
    assert product.stop() == 0

    before, product.state = product.state, public_dir / "restored"
    said = product.call("restore", "--state", product.state, file)
    assert "restored into" in said.stdout
    assert PASSPHRASE not in said.stdout + said.stderr
    # A state directory may be moved while nothing runs on it.
    moved = public_dir / "moved"
    os.rename(product.state, moved)
    product.state = moved
    product.start()
    assert httpx.get(f"{product.url}/api/v1/projects/acme").json()["pipelines"][0]["name"] == "ci"
    names = httpx.get(f"{product.url}/api/v1/projects/acme/secrets").json()["secrets"]
    assert [secret["name"] for secret in names] == ["TOKEN"]
    assert (moved / "secrets.key").read_bytes() == (before / "secrets.key").read_bytes()
    assert product.stop() == 0
    # A backup of a server that stands still is one as well.
    product.call("backup", "--state", moved, public_dir / "still.tar")
    shutil.rmtree(before)
