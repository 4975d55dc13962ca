"""Approval gates (spec-pipelines 3.13): jobs that execute nothing and wait for people."""

from __future__ import annotations

import re
from typing import Literal, cast

from gocdnext import durations
from gocdnext.pipeline import model
from gocdnext.pipeline.context import Context
from gocdnext.pipeline.problems import quoted
from gocdnext.pipeline.schema import Block

MAX_LABELS = 16
MIN_TIMEOUT_SECONDS = 60
MAX_TIMEOUT_SECONDS = 2160 * 3600
_LABEL = re.compile(r"[a-z0-9][a-z0-9._/-]*")

# Present and not null is enough for these, whatever they hold; the others count when not empty.
_FORBIDDEN_PRESENT = ("settings", "artifacts", "deploy", "environment")
_FORBIDDEN_FILLED = ("script", "uses", "image", "needs_artifacts", "cache", "docker", "id_tokens", "cluster")


def approval(job: Block, context: Context) -> model.Approval:
    """The normal form of a job with `approval`; reports everything that cannot stand beside it."""
    if job.has("parallel"):
        context.add("gate_parallel", job.where("parallel"), "an approval gate cannot have `parallel`", "remove it")
    for key in (*_FORBIDDEN_PRESENT, *_FORBIDDEN_FILLED):
        if key in job.bad or (key in job and (key in _FORBIDDEN_PRESENT or job.values[key])):
            hint = "put what is to be executed into a job that needs this one"
            context.add(
                "gate_executes", job.where(key), f"an approval gate executes nothing, `{key}` cannot be here", hint
            )
    block = job.block("approval")
    timeout = _timeout(job, context)
    if block is None:  # unreadable, which is reported
        return model.Approval(required=1, timeout=timeout)
    people = len(block.texts("approvers")) + len(block.texts("approver_groups"))
    return model.Approval(
        required=_required(block, people, context),
        timeout=timeout,
        approvers=block.texts("approvers"),
        approver_groups=block.texts("approver_groups"),
        quorum_by_label=_labels(block, people, context),
        description=block.text("description"),
    )


def _required(block: Block, people: int, context: Context) -> int:
    required = block.integer("required") or 1
    if required < 0:
        context.add("gate_quorum", block.where("required"), "`required` cannot be negative")
    elif people and required > people and not block.bad:
        message = f"{required} approvals are required, but only {people} approvers and groups are listed"
        context.add("gate_quorum", block.where("required"), message)
    return required


def _labels(block: Block, people: int, context: Context) -> dict[str, int]:
    quorums = cast("dict[str, int]", block.values.get("quorum_by_label", {}))
    if len(quorums) > MAX_LABELS:
        message = f"{len(quorums)} labels, at most {MAX_LABELS} are allowed"
        context.add("gate_label", block.where("quorum_by_label"), message)
        return {}
    found: dict[str, int] = {}
    for label, quorum in quorums.items():
        node, lower = block.entry("quorum_by_label", label), label.lower()
        if not _LABEL.fullmatch(lower):
            hint = "letters, digits and `._/-`, starting with a letter or digit"
            context.add("gate_label", node, f"{quoted(label)} is not a label", hint)
        elif lower in found:
            context.add("gate_label", node, f"the label {quoted(lower)} is there twice; case does not count")
        if quorum < 1:
            context.add("gate_quorum", node, f"the quorum of {quoted(label)} must be at least 1")
        elif people and quorum > people and not block.bad:
            message = f"the quorum of {quoted(label)} is {quorum}, but only {people} approvers and groups are listed"
            context.add("gate_quorum", node, message)
        found[lower] = quorum
    return found


def _timeout(job: Block, context: Context) -> int | Literal["inherit", "never"]:
    text = job.text("timeout").strip()
    if not text:
        return "inherit"
    if text.lower() in ("never", "off"):
        return "never"
    seconds = durations.go_duration(text)
    if seconds is None:
        context.add("gate_timeout", job.where("timeout"), f"{quoted(text)} is not a duration", durations.hint(text))
    elif not MIN_TIMEOUT_SECONDS <= seconds <= MAX_TIMEOUT_SECONDS:
        hint = "write `never` for a gate that does not expire"
        context.add("gate_timeout", job.where("timeout"), f"{quoted(text)} is not between 1m and 2160h", hint)
    else:
        return int(seconds)
    return "inherit"
