"""Which artifacts a job fetches, and what it is told when there are none (spec-pipelines 3.8)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gocdnext.pipeline import model
from gocdnext.runs.fetching import FetchError, downloads
from gocdnext.runs.state import Artifact, Run
from tests.unit.runs.builders import make_run

MADE = (
    Artifact("compile", "dist/", "k1", "h1"),
    Artifact("compile", "log", "k2", "h2"),
    Artifact("docs", "html", "k3", "h3"),
    Artifact("compile", "dist", "k4", "h4", pipeline="lib"),
)


def job(*needs: model.NeedsArtifacts) -> model.Job:
    return model.Job(name="unit", stage="test", kind="noop", needs_artifacts=needs)


@pytest.fixture
def run() -> Run:
    return replace(make_run("build: compile; test: unit"), artifacts=MADE, cause_detail={"upstream_pipeline": "lib"})


def test_all_of_a_job_or_the_paths_that_are_named(run: Run) -> None:
    need = model.NeedsArtifacts
    assert downloads(run, job()) == ()
    found = downloads(run, job(need(from_job="docs"), need(from_job="compile", dest="in")))
    assert [(d.path, d.dest, d.storage_key, d.sha256, d.from_job) for d in found] == [
        ("html", "./", "k3", "h3", "docs"),
        ("dist/", "in", "k1", "h1", "compile"),
        ("log", "in", "k2", "h2", "compile"),
    ]
    assert [d.path for d in downloads(run, job(need(from_job="compile", paths=("dist", "absent"))))] == ["dist/"]
    upstream = need(from_job="compile", from_pipeline="lib")
    assert [d.storage_key for d in downloads(run, job(upstream))] == ["k4"]


@pytest.mark.parametrize(
    ("need", "words"),
    [
        ({"from_job": "nobody"}, "artifact deps: no artifact of nobody is ready"),
        ({"from_job": "compile", "paths": ("bin",)}, "artifact deps: compile left no bin; it left dist/, log"),
        (
            {"from_job": "compile", "from_pipeline": "other"},
            "artifact deps: this run was not started by the pipeline other",
        ),
        ({"from_job": "docs", "from_pipeline": "lib"}, "artifact deps: no artifact of docs is ready"),
    ],
)
def test_nothing_there(run: Run, need: dict[str, object], words: str) -> None:
    with pytest.raises(FetchError) as refused:
        downloads(run, job(model.NeedsArtifacts(**need)))  # type: ignore[arg-type]
    assert str(refused.value).startswith(words)
