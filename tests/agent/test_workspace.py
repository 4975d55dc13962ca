"""Directories of jobs: one per attempt, locked while somebody works there, gone afterwards."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gocdnext.agent import workspace
from gocdnext.agent.workspace import job_directory, remove_leftovers


async def test_two_attempts_of_a_job_never_share_a_directory(tmp_path: Path) -> None:
    async with job_directory(str(tmp_path), "run", "job") as first:
        async with job_directory(str(tmp_path), "run", "job") as second:
            assert first != second
            Path(first, "file").touch()
        assert os.listdir(first) == ["file"], "the end of one attempt leaves the other alone"
    assert os.listdir(tmp_path) == []


async def test_leftovers_of_a_killed_agent_go_and_living_jobs_stay(tmp_path: Path) -> None:
    abandoned = tmp_path / "run" / "job-0badcafe"
    (abandoned / "deep").mkdir(parents=True)
    (tmp_path / "run" / "job-0badcafe.credentials").touch()
    (tmp_path / "run" / "job-0badcafe.lock").touch()
    async with job_directory(str(tmp_path), "run", "job") as living:
        assert remove_leftovers(str(tmp_path)) == 1
        assert os.path.isdir(living)
        assert sorted(os.listdir(tmp_path / "run")) == sorted(
            [os.path.basename(living), f"{os.path.basename(living)}.lock"]
        )
    assert remove_leftovers(str(tmp_path)) == 0
    assert os.listdir(tmp_path) == []


async def test_ids_cannot_lead_elsewhere(tmp_path: Path) -> None:
    async with job_directory(str(tmp_path), "../up", "a/b.c") as path:
        assert Path(path).parent == tmp_path / "___up"
        assert Path(path).name.startswith("a_b_c-")


def test_a_job_begins_in_the_moment_in_which_another_one_of_its_run_ends(tmp_path: Path) -> None:
    """The directory of their run goes with the last job and comes with the first."""

    def many(name: str) -> None:
        for number in range(400):
            path = str(tmp_path / "run" / f"{name}-{number:08}")
            workspace._remove(path, workspace._make(path))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(many, ("a", "b", "c", "d")))
    assert list(tmp_path.iterdir()) == []
