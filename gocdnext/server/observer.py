"""Who hears what happened to runs."""

from __future__ import annotations

from uuid import UUID

from gocdnext.forges.reporter import Reporter
from gocdnext.logs.hub import LogHub
from gocdnext.metrics import Metrics
from gocdnext.runs.scheduler import Scheduler
from gocdnext.runs.state import Job, Run


class Observer:
    """Tells scheduler, metrics, log readers and the reporter what happened to runs."""

    def __init__(self, scheduler: Scheduler, metrics: Metrics, hub: LogHub, reporter: Reporter) -> None:
        self.wake = scheduler.wake
        self.wake_pipeline = scheduler.wake_pipeline
        self.waits = scheduler.waits
        self.announced = scheduler.announced
        self.figures = metrics
        self._hub = hub
        self._reporter = reporter

    def job_started(self, run: Run, job: Job) -> None:
        self._reporter.nudge()
        self.figures.job_scheduled(run.pipeline_id, run.project_id)

    def job_ended(self, run: Run, job: Job) -> None:
        if job.started_at is None:
            return  # it never ran: refused, skipped or cancelled while queued
        if job.finished_at is None:
            self.figures.job_left()
            return
        seconds = (job.finished_at - job.started_at).total_seconds()
        self.figures.job_ended(run.pipeline_id, run.project_id, job.status, seconds)

    def run_ended(self, run_id: UUID, status: str) -> None:
        self._hub.poke()
        self._reporter.nudge()
