"""Rows of the database as the messages of `wire`. Pure; nested lists arrive as JSON text and get their types here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import chain
from operator import itemgetter
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from gocdnext.api import wire
from gocdnext.api.respond import utc, utc_or_none
from gocdnext.auth.identity import Subject
from gocdnext.auth.roles import Role
from gocdnext.logs.windows import LogLine, Window
from gocdnext.materials.polling import Looked
from gocdnext.projects.apply import ApplyResult
from gocdnext.projects.figures import Week
from gocdnext.projects.read import Feed, ProjectDetail, ProjectList
from gocdnext.projects.store import Stored
from gocdnext.runs.waiting import NOTHING, Reasons, Waiting

ONLINE_WITHIN = timedelta(seconds=90)
"""An online agent that was not heard of for longer is `stale` (contract-runs 8.2)."""
WINDOW_DAYS = 7

_STAGES = msgspec.json.Decoder(list[wire.StageRunSummary])
_PREVIEWS = msgspec.json.Decoder(list[wire.PipelinePreview])
_STAGE_DETAILS = msgspec.json.Decoder(list[wire.StageDetail])

Row = asyncpg.Record


def project_list(found: ProjectList) -> wire.Projects:
    """The list of 2.1."""
    return wire.Projects(projects=[_project(row, found.figures[row["id"]]) for row in found.projects])


def project_detail(found: ProjectDetail, reasons: Mapping[UUID, Reasons], reader: Subject | None) -> wire.ProjectDetail:
    """The detail of 2.2; `reasons` by open run. `reader` is None where nobody has to sign in."""
    row = found.project
    return wire.ProjectDetail(
        project=_project(row, found.figures[row["id"]]),
        pipelines=[
            _pipeline(pipeline, found.figures[pipeline["id"]], reasons.get(pipeline["run_id"], NOTHING))
            for pipeline in found.pipelines
        ],
        runs=[_run(run, reasons.get(UUID(run["id"]), NOTHING)) for run in found.runs],
        scm_source=_scm(row, reader),
        edges=[edge for pipeline in sorted(found.pipelines, key=itemgetter("id")) for edge in _edges(pipeline)],
    )


def applied(slug: str, result: ApplyResult) -> wire.Applied:
    """The answer of an apply (2.4)."""
    stored = result.stored
    source = stored.source
    return wire.Applied(
        project_id=str(stored.project_id),
        project_slug=slug,
        project_created=stored.created,
        pipelines=[
            wire.AppliedPipeline(
                name=pipeline.name,
                pipeline_id=str(pipeline.id),
                created=pipeline.created,
                materials_added=pipeline.materials_added,
                materials_removed=pipeline.materials_removed,
            )
            for pipeline in stored.pipelines
        ],
        pipelines_applied=len(stored.pipelines),
        pipelines_removed=list(stored.removed),
        scm_source=None
        if source is None
        else wire.AppliedScmSource(
            id=str(source.id),
            provider=source.provider,
            url=shown_url(source.clone_url),
            default_branch=source.default_branch,
            created=source.created,
            generated_webhook_secret=source.generated_secret,
        ),
        warnings=list(result.warnings),
    )


def synced(slug: str, project_id: UUID, result: ApplyResult | None, looked: Looked) -> wire.Synced:
    """The answer of a sync (2.5)."""
    # Nothing is bound: nothing was applied.
    empty = Stored(project_id, created=False, pipelines=(), removed=(), source=None)
    done = applied(slug, ApplyResult(empty, ()) if result is None else result)
    return wire.Synced(
        **msgspec.structs.asdict(done),
        revision="" if result is None else result.revision,
        materials_polled=looked.materials,
        runs=[str(run) for run in looked.runs],
        errors=looked.errors,
    )


def shown_url(clone_url: str) -> str:
    """The https form of a repository that a provider hosts; a file or http url stays what it is."""
    url = clone_url.rstrip("/").removesuffix(".git")
    for prefix in ("ssh://", "git://"):
        if url.startswith(prefix):
            return "https://" + url[len(prefix) :].rpartition("@")[2]
    if "://" in url or url.startswith("/"):
        return url
    host, _, path = url.rpartition("@")[2].partition(":")
    return f"https://{host}/{path.lstrip('/')}"


def feed(found: Feed, reasons: Mapping[UUID, Reasons], limit: int, offset: int) -> wire.Runs:
    """One page of 3.1; `reasons` by open run."""
    runs = [_global_run(row, reasons.get(row["id"], NOTHING)) for row in found.runs]
    return wire.Runs(runs=runs, total=found.total, limit=limit, offset=offset)


def stages_of(row: Row) -> list[wire.StageDetail]:
    """The stages and jobs of a run's detail, without log lines."""
    return _STAGE_DETAILS.decode(row["stages"]) if row["stages"] else []


def run_detail(row: Row, stages: list[wire.StageDetail]) -> wire.RunDetail:
    """The detail of 3.2."""
    return wire.RunDetail(
        **_run_fields(row, row["id"]),
        project_slug=row["project_slug"],
        check_reporting_mode="both",
        cause_detail=row["cause_detail"],
        revisions=row["revisions"],
        stages=stages,
    )


def add_reasons(detail: wire.RunDetail, found: Reasons) -> None:
    """Says of the run and its jobs what they wait for."""
    detail.waiting = _waiting(found.run)
    for stage in detail.stages:
        for job in stage.jobs:
            job.waiting = _waiting(found.jobs.get(UUID(job.id)))
            _add_freezes(job, found)


def _add_freezes(job: wire.JobDetail | wire.JobRunLite, found: Reasons) -> None:
    job.frozen_envs = list(found.frozen.get(UUID(job.id), ()))
    job.held_by_freeze = bool(job.frozen_envs)


def _waiting(reason: Waiting | None) -> wire.Waiting | None:
    return None if reason is None else wire.Waiting(code=reason.code, text=reason.text, detail=reason.detail)


def add_window(job: wire.JobDetail, window: Window, *, head: bool) -> None:
    """Puts a job's log lines into its detail; `head` says whether the first lines were asked for."""
    job.logs = [_line(line) for line in window.tail]
    job.logs_total = window.total
    if head:
        job.logs_head = [_line(line) for line in window.head]
        job.logs_omitted = window.omitted


def agent(row: Row, now: datetime) -> wire.Agent:
    """An agent of 8.2."""
    return wire.Agent(
        id=str(row["id"]),
        name=row["name"],
        version=row["version"],
        os=row["os"],
        arch=row["arch"],
        tags=row["tags"],
        capacity=row["capacity"],
        status=row["status"],
        health_state=_health(row["status"], row["last_seen_at"], now),
        last_seen_at=utc_or_none(row["last_seen_at"]),
        registered_at=utc(row["registered_at"]),
        running_jobs=row["running_jobs"],
    )


def agent_job(row: Row) -> wire.AgentJob:
    """A job in the history of an agent."""
    return wire.AgentJob(
        job_run_id=str(row["id"]),
        job_name=row["name"],
        job_status=row["status"],
        started_at=utc_or_none(row["started_at"]),
        finished_at=utc_or_none(row["finished_at"]),
        exit_code=row["exit_code"],
        run_id=str(row["run_id"]),
        run_counter=row["counter"],
        pipeline_name=row["pipeline_name"],
        project_id=str(row["project_id"]),
        project_slug=row["project_slug"],
        project_name=row["project_name"],
    )


def _health(status: str, seen: datetime | None, now: datetime) -> str:
    if status == "online":
        return "online" if seen is not None and now - seen <= ONLINE_WITHIN else "stale"
    return "idle" if status == "idle" else "offline"


def _run(run: Mapping[str, Any], reasons: Reasons) -> wire.RunSummary:
    """A run that arrived as JSON."""
    found = msgspec.convert(run, wire.RunSummary)
    found.waiting = _waiting(reasons.run)
    return found


def _project(row: Row, figures: Week) -> wire.ProjectSummary:
    return wire.ProjectSummary(
        id=str(row["id"]),
        slug=row["slug"],
        name=row["name"],
        description=row["description"] or "",
        config_path=row["config_path"],
        created_at=utc(row["created_at"]),
        updated_at=utc(row["updated_at"]),
        pipeline_count=row["pipeline_count"],
        run_count=row["run_count"],
        latest_run_at=utc_or_none(row["latest_run_at"]),
        provider=row["provider"] or "",
        status=_status(row),
        top_pipelines=_PREVIEWS.decode(row["previews"]) if row["previews"] else [],
        metrics=_metrics(figures, []),
        latest_run_meta=_meta(row),
        labels=[wire.Label(key=label["key"], value=label["value"]) for label in row["labels"] or ()],
    )


def _status(row: Row) -> str:
    """First match wins (2.1)."""
    if not row["pipeline_count"]:
        return "no_pipelines"
    if not row["any_run"]:
        return "never_run"
    if row["any_active"]:
        return "running"
    return "failing" if row["any_failed"] else "success"


def _pipeline(row: Row, figures: Week, reasons: Reasons) -> wire.PipelineSummary:
    stages = _stages(row)
    if reasons.frozen:
        for job in chain.from_iterable(stage.jobs or () for stage in stages):
            _add_freezes(job, reasons)
    return wire.PipelineSummary(
        id=str(row["id"]),
        name=row["name"],
        definition_version=row["definition_version"],
        updated_at=utc(row["updated_at"]),
        definition_stages=row["definition_stages"] or [],
        definition_jobs=msgspec.convert(row["definition_jobs"] or [], list[wire.DefinitionJob]),
        latest_run=latest_run(row, reasons),
        latest_run_stages=stages,
        metrics=pipeline_metrics(row, figures),
        latest_run_meta=None if row["run_id"] is None else _meta(row),
    )


def pipeline_metrics(row: Row, figures: Week) -> wire.PipelineMetrics | None:
    """The figures of a pipeline and its stages; None while there is nothing to count."""
    return _metrics(figures, msgspec.convert(row["stage_stats"] or [], list[wire.StageStat]))


def latest_run(row: Row, reasons: Reasons) -> wire.RunSummary | None:
    """The newest run in the row of a pipeline."""
    if row["run_id"] is None:
        return None
    fields = {**dict(row.items()), "pipeline_id": row["id"], "pipeline_name": row["name"]}
    return wire.RunSummary(**_run_fields(fields, row["run_id"]), waiting=_waiting(reasons.run))


def _edges(row: Row) -> Iterable[wire.Edge]:
    for config in row["upstreams"] or ():
        yield wire.Edge(
            from_pipeline=config["pipeline"],
            to_pipeline=row["name"],
            stage=config.get("stage", ""),
            status=config.get("status", ""),
        )


def _stages(row: Row) -> list[wire.StageRunSummary]:
    return _STAGES.decode(row["stages"]) if row["stages"] else []


def _metrics(figures: Week, stats: list[wire.StageStat]) -> wire.PipelineMetrics | None:
    if not figures.runs_considered and not stats:
        return None
    return wire.PipelineMetrics(
        window_days=WINDOW_DAYS,
        runs_considered=figures.runs_considered,
        success_rate=figures.success_rate or 0.0,
        lead_time_p50_seconds=figures.lead_time_p50_seconds or 0.0,
        process_time_p50_seconds=figures.process_time_p50_seconds or 0.0,
        stage_stats=stats,
    )


def _meta(row: Row) -> wire.RunMeta | None:
    """What the newest run ran; a run without revisions has none (2.1)."""
    if row["revision"] is None:
        return None
    number = row["pr_number"] or ""
    return wire.RunMeta(
        revision=row["revision"],
        branch=row["branch"] or "",
        message=row["message"] or "",
        author=row["author"] or "",
        triggered_by=row["triggered_by"] or "",
        cause=row["cause"],
        pr_number=int(number) if number.isascii() and number.isdigit() and len(number) <= 9 else 0,
    )


def _scm(row: Row, reader: Subject | None) -> wire.ScmInfo | None:
    """The bound repository; the credential reference only for those who may change it (contract-runs 13, 11)."""
    if row["scm_id"] is None:
        return None
    return wire.ScmInfo(
        id=str(row["scm_id"]),
        provider=row["provider"],
        url=shown_url(row["clone_url"]),
        default_branch=row["default_branch"],
        auth_ref=(row["auth_ref"] or "") if may_see_credentials(reader) else "",
        poll_interval_ns=row["poll_interval_ns"],
        last_synced_at=utc_or_none(row["last_synced_at"]),
        last_synced_revision=row["last_synced_revision"] or "",
        sync_error=row["sync_error"] or "",
    )


def may_see_credentials(reader: Subject | None) -> bool:
    """Whether this reader is shown what a repository is fetched with; None where nobody has to sign in."""
    return reader is None or reader.may(Role.MAINTAINER)


def _global_run(row: Row, reasons: Reasons) -> wire.GlobalRun:
    return wire.GlobalRun(
        **_run_fields(row, row["id"]),
        waiting=_waiting(reasons.run),
        project_id=str(row["project_id"]),
        project_slug=row["project_slug"],
        project_name=row["project_name"],
    )


def _run_fields(row: Row | Mapping[str, Any], run_id: UUID) -> dict[str, Any]:
    superseded_by = row["superseded_by"]
    return {
        "id": str(run_id),
        "pipeline_id": str(row["pipeline_id"]),
        "pipeline_name": row["pipeline_name"],
        "counter": row["counter"],
        "cause": row["cause"],
        "status": row["status"],
        "has_services": row["has_services"],
        "service_names": row["service_names"],
        "queue_reason": row["queue_reason"] or "",
        "cancel_reason": row["cancel_reason"] or "",
        "superseded_by": None if superseded_by is None else str(superseded_by),
        "created_at": utc(row["created_at"]),
        "started_at": utc_or_none(row["started_at"]),
        "finished_at": utc_or_none(row["finished_at"]),
        "triggered_by": row["triggered_by"] or "",
    }


def _line(line: LogLine) -> wire.LogLine:
    return wire.LogLine(seq=line.seq, stream=line.stream, at=utc(line.at), text=line.text)
