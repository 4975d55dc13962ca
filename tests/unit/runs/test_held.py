"""A server whose disk is nearly full starts nothing, and says so from the function that decides."""

from __future__ import annotations

from dataclasses import replace

from gocdnext.runs import dispatch
from gocdnext.runs.waiting import Waiting, reasons
from tests.unit.runs.builders import job_named, make_run, slot

WHY = "the server's disk is nearly full"


def test_held_slots_take_nothing() -> None:
    run = make_run("one: a")
    held = replace(slot(), held=WHY)
    assert reasons(run, (held,)).jobs[job_named(run, "a").id] == Waiting("disk_full", WHY, "")
    assert not [made for made in dispatch.plan(run, (held,)).decisions if isinstance(made, dispatch.Assign)]
    (wait,) = dispatch.plan(run, (held,)).decisions
    assert isinstance(wait, dispatch.Wait)
    assert wait.code in dispatch.NO_SLOT, "the run is remembered, and looked at when there is room"


def test_who_has_no_agent_waits_for_one() -> None:
    run = make_run("one: a", tags={"a": ("gpu",)})
    assert reasons(run, (replace(slot(), held=WHY),)).jobs[job_named(run, "a").id].code == "no_agent"
