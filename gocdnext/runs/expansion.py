"""From a definition to the stages and jobs of a new run (spec-execution 2). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from uuid import UUID

from gocdnext.pipeline import model
from gocdnext.pipeline.model import Notification, Pipeline
from gocdnext.runs.state import AWAITING, NOTIFICATIONS_STAGE, NOTIFY_PREFIX, QUEUED, Gate, Job, Stage

NewId = Callable[[], UUID]


def expand(
    definition: Pipeline,
    notifications: tuple[Notification, ...],
    *,
    labels: frozenset[str],
    now: datetime,
    new_id: NewId,
) -> tuple[tuple[Stage, ...], tuple[Job, ...]]:
    """Stages in order and a job per instance, gates waiting from the start; at the end the notifications, if any.

    `labels` are those of the pull request that started the run, lower case; they choose a gate's quorum.
    """
    stages = [Stage(new_id(), name, ordinal) for ordinal, name in enumerate(definition.stages)]
    by_name = {stage.name: stage.id for stage in stages}
    jobs = [
        Job(
            id=new_id(),
            stage_id=by_name[job.stage],
            name=job.name,
            matrix_key=key,
            status=QUEUED if job.approval is None else AWAITING,
            needs=job.needs,
            timeout_seconds=job.timeout_seconds,
            retry_unsafe=job.deploy is not None or bool(job.environment),
            gate=None if job.approval is None else _gate(job.approval, labels, now),
        )
        for job in definition.jobs
        for key in job.instances or ("",)
    ]
    if notifications:
        stage = Stage(new_id(), NOTIFICATIONS_STAGE, len(stages))
        stages.append(stage)
        jobs += [Job(new_id(), stage.id, f"{NOTIFY_PREFIX}{number}") for number in range(len(notifications))]
    return tuple(stages), tuple(jobs)


def request_labels(cause: str, detail: Mapping[str, object]) -> frozenset[str]:
    """The labels of the pull request in a run's cause; none for any other cause."""
    labels = detail.get("pr_labels") if cause == "pull_request" else None
    return frozenset(label for label in labels if isinstance(label, str)) if isinstance(labels, list) else frozenset()


def _gate(approval: model.Approval, labels: frozenset[str], now: datetime) -> Gate:
    matching = {label: n for label, n in approval.quorum_by_label.items() if label in labels}
    # The largest number wins, on a tie the label that sorts first (contract-runs 4.3).
    label = min(matching, key=lambda name: (-matching[name], name)) if matching else None
    return Gate(
        awaiting_since=now,
        required=matching[label] if label is not None else max(1, approval.required),
        quorum_label=label,
        approvers=approval.approvers,
        approver_groups=approval.approver_groups,
        description=approval.description,
    )
