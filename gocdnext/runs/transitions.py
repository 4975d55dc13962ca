"""The only place where the state of a run changes: state + event + time -> new state + what follows.

Pure. Every event names the state it expects (agent, attempt, clock of a gate), so a late or repeated one changes nothing
and gives the very same run back. The rules are one module per kind of event; this is the table that leads to them.
"""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from gocdnext.runs import cancelling, events, execution, gates, rerun
from gocdnext.runs.cascade import settle
from gocdnext.runs.events import Event, Outcome
from gocdnext.runs.state import FAILED, SKIPPED, Run


def apply(run: Run, event: Event, now: datetime) -> Outcome:
    """What `event` makes of `run` at `now`. An event that does not fit the state gives `run` itself and no effects."""
    match event:
        case events.JobAssigned():
            return execution.assigned(run, event, now)
        case events.AssignmentLost():
            return execution.assignment_lost(run, event, now)
        case events.JobRefused(job_id, error):
            return execution.undispatchable(run, job_id, FAILED, error, now)
        case events.JobSkipped(job_id):
            return execution.undispatchable(run, job_id, SKIPPED, None, now)
        case events.JobReported():
            return execution.reported(run, event, now)
        case events.AgentLost():
            return execution.agent_lost(run, event, now)
        case events.JobTimedOut():
            return execution.timed_out(run, event, now)
        case events.RunCancelRequested():
            return cancelling.cancel_run(run, now)
        case events.JobCancelRequested():
            return cancelling.cancel_job(run, event, now)
        case events.RunSuperseded():
            return cancelling.superseded(run, event, now)
        case events.GateExpired():
            return cancelling.expired(run, event, now)
        case events.GateVoted():
            return gates.voted(run, event, now)
        case events.JobRerunRequested():
            return rerun.rerun_job(run, event, now)
        case events.EnvironmentReleased(environment):
            return gates.released(run, environment, now)
        case events.Reached():
            return settle(run, now)
    assert_never(event)
