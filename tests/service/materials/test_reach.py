"""Asking for the heads of branches keeps to the operator's rules of outgoing calls (anchors E 10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gocdnext.materials import git
from gocdnext.outbound.policy import Policy
from tests.api.world import repository
from tests.service.materials.test_folders import remotes


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/x", "git://localhost/x", "ssh://git@169.254.169.254/x", "git@10.0.0.1:x", "https://[::1]/x"],
)
async def test_the_inside_of_the_network_is_not_asked(url: str) -> None:
    async with remotes(Policy()) as room:
        with pytest.raises(git.GitError, match="GOCDNEXT_OUTBOUND_ALLOW"):
            await room.heads(url, ("main",))


async def test_offline_only_the_disk_is_asked(tmp_path: Path) -> None:
    commit = repository(tmp_path / "repo", {"a": "a"})
    async with remotes(Policy(offline=True)) as room:
        assert await room.heads(f"file://{tmp_path}/repo", ("main",)) == {"main": commit}
        assert await room.heads(f"{tmp_path}/repo", ("main",)) == {"main": commit}
        for url in ("https://example.org/x", "git@example.org:x"):
            with pytest.raises(git.GitError, match="GOCDNEXT_OFFLINE"):
                await room.heads(url, ("main",))
