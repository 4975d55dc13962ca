"""What stands in for the server's store in a local run. All jobs share one workspace, so artifacts and caches are there
already; what is left to do is what would make a difference: copies under another `dest`, keys, reports and thresholds."""

from __future__ import annotations

import os
import tempfile

from gocdnext.agent import archive, coverage_report, markers, test_reports
from gocdnext.agent.artifacts import ArtifactError, distinct, missing
from gocdnext.agent.cache_keys import CacheKeyError, expand
from gocdnext.agent.delivery import MaskingLog
from gocdnext.agent.failures import DeliveryError
from gocdnext.agent.found import Check, clean, select
from gocdnext.agent.parcels import in_thread
from gocdnext.pipeline.model import Job, NeedsArtifacts, Pipeline
from gocdnext.proto.agent_pb2 import CoverageReportSpec


async def take_in(job: Job, pipeline: Pipeline, workspace: str, log: MaskingLog) -> None:
    """Before the task. DeliveryError for what would fail the job on a server."""
    for wanted in job.needs_artifacts:
        if wanted.from_pipeline:
            await log.line(f"artifacts of the pipeline {wanted.from_pipeline} are not fetched in a local run")
        else:
            await _copy(wanted, pipeline, workspace, log)
    for cache in job.cache:
        try:
            await in_thread(expand, cache.key, workspace)
        except CacheKeyError as error:
            raise CacheKeyError(f"cache key: {error}") from error


async def hand_out(job: Job, workspace: str, log: MaskingLog, *, failed: bool) -> None:
    """After the task: what its reports say, and whether what it promised is there. DeliveryError when it is not."""
    if job.test_reports:
        await test_reports.collect(job.test_reports, workspace, log.mask, log)
    if job.coverage_report is not None:
        wanted = job.coverage_report
        spec = CoverageReportSpec(path=wanted.path, format=wanted.format, fail_under=wanted.fail_under)
        summary = await coverage_report.collect(spec, workspace, log)
        if not failed:
            coverage_report.check(spec, summary)
    if not failed and job.artifacts is not None and job.artifacts.when != "on_failure":
        for path in distinct(job.artifacts.required):
            try:
                selection = await in_thread(select, workspace, path)
            except DeliveryError as error:
                raise ArtifactError(f"artifact upload failed: {error}") from error
            if not selection.names:
                raise ArtifactError(f"artifact upload failed: {missing(path)}")


async def _copy(wanted: NeedsArtifacts, pipeline: Pipeline, workspace: str, log: MaskingLog) -> None:
    """Another job's artifacts to where this one wants them; its own place needs nothing."""
    source = pipeline.job(wanted.from_job)
    if source is None or source.artifacts is None:
        raise ArtifactError(f"artifact deps: the job {wanted.from_job!r} has no artifacts")
    try:
        dest = clean(wanted.dest)
        for path in distinct([*source.artifacts.required, *source.artifacts.optional]):
            if dest and (not wanted.paths or path in wanted.paths):
                await log.line(markers.download(path, wanted.from_job))
                await in_thread(_copy_one, workspace, path, dest)
    except DeliveryError as error:
        raise ArtifactError(f"artifacts of {wanted.from_job}: {error}") from error


def _copy_one(workspace: str, path: str, dest: str, check: Check) -> None:
    """Through an archive, as on a server: the same names, modes and links arrive."""
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "archive")
        archive.pack(workspace, [select(workspace, path, check)], target, check)
        with open(target, "rb", 0) as file:
            archive.unpack(file, workspace, dest, check)
