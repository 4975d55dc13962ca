"""Which artifacts a job fetches before it begins: `needs_artifacts` of the file (spec-pipelines 3.8). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gocdnext.pipeline import model
from gocdnext.runs.state import Artifact, Run

HERE = "./"
"""Where artifacts go whose entry says no `dest`: the directory that the job begins in."""


class FetchError(Exception):
    """Nothing of what an entry asks for is there; the text is the job's error."""


@dataclass(frozen=True, slots=True)
class Download:
    """One artifact to fetch into `dest`. Its address is added when it is sent, because it does not last."""

    path: str
    storage_key: str
    dest: str
    sha256: str
    from_job: str
    url: str = ""


def downloads(run: Run, job: model.Job) -> tuple[Download, ...]:
    """What the job fetches, entry by entry, by instance and path within one. Raises FetchError for an entry without any."""
    return tuple(
        Download(artifact.path, artifact.storage_key, need.dest or HERE, artifact.sha256, artifact.job)
        for need in job.needs_artifacts
        for artifact in _wanted(run, need)
    )


def _wanted(run: Run, need: model.NeedsArtifacts) -> list[Artifact]:
    made = [entry for entry in run.artifacts if (entry.pipeline, entry.job) == (need.from_pipeline, need.from_job)]
    paths = {path.rstrip("/") for path in need.paths}
    found = [entry for entry in made if not paths or entry.path.rstrip("/") in paths]
    if not found:
        raise FetchError(_why(run, need, made))
    return found


def _why(run: Run, need: model.NeedsArtifacts, made: list[Artifact]) -> str:
    if made:
        have = ", ".join(entry.path for entry in made)[:1000]
        return f"artifact deps: {need.from_job} left no {', '.join(need.paths)}; it left {have}"
    if need.from_pipeline and run.cause_detail.get("upstream_pipeline") != need.from_pipeline:
        return f"artifact deps: this run was not started by the pipeline {need.from_pipeline}"
    return f"artifact deps: no artifact of {need.from_job} is ready (never made, or expired: run that job again)"
