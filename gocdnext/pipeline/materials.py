"""The materials of a file: which kind each entry is, and its fingerprint (spec-pipelines 9.1)."""

from __future__ import annotations

from gocdnext import durations
from gocdnext.pipeline import fingerprints, model
from gocdnext.pipeline.context import Context
from gocdnext.pipeline.problems import quoted
from gocdnext.pipeline.schema import Block

GIT_EVENTS = ("push", "pull_request", "tag")
DEFAULT_BRANCH = "main"
MIN_POLL_SECONDS = 60
MAX_POLL_SECONDS = 24 * 3600


def materials(top: Block, context: Context) -> tuple[model.Material, ...]:
    found = (_material(block, context) for block in top.blocks("materials"))
    return tuple(material for material in found if material is not None)


def _material(block: Block, context: Context) -> model.Material | None:
    """An entry with several kinds is the first of git, upstream, cron, manual."""
    if (git := block.block("git")) is not None:
        return _git(git, context)
    if (upstream := block.block("upstream")) is not None:
        pipeline, stage = upstream.text("pipeline"), upstream.text("stage")
        return model.UpstreamMaterial(
            fingerprint=fingerprints.upstream(pipeline, stage),
            pipeline=pipeline,
            stage=stage,
            status=upstream.text("status") or "success",
        )
    if (cron := block.block("cron")) is not None:
        expression = cron.text("expression")
        return model.CronMaterial(fingerprint=fingerprints.cron(expression), expression=expression)
    if block.flag("manual"):
        return model.ManualMaterial(fingerprint=fingerprints.manual())
    if not block.bad:
        hint = "one of `git: {url: …}`, `upstream: {pipeline: …, stage: …}`, `cron: {expression: …}`, `manual: true`"
        context.add("material_kind", block.node, "the material has no kind", hint)
    return None


def _git(git: Block, context: Context) -> model.GitMaterial:
    url, branch = git.text("url"), git.text("branch") or DEFAULT_BRANCH
    events = git.texts("on")
    for index, event in enumerate(events):
        if event not in GIT_EVENTS:
            hint = f"one of {', '.join(GIT_EVENTS)}"
            message = f"a git material cannot receive {quoted(event)}"
            context.add("material_event", git.item("on", index), message, hint)
    return model.GitMaterial(
        fingerprint=fingerprints.git_fingerprint(url, branch),
        url=url,
        branch=branch,
        events=events or ("push",),
        auto_register_webhook=git.flag("auto_register_webhook"),
        secret_ref=git.text("secret_ref"),
        poll_seconds=_poll_seconds(git, context),
    )


def _poll_seconds(git: Block, context: Context) -> int:
    text = git.text("poll_interval")
    if not text:
        return 0
    seconds = durations.go_duration(text)
    if seconds is None:
        message = f"{quoted(text)} is not a duration"
        context.add("poll_interval", git.where("poll_interval"), message, durations.hint(text))
        return 0
    if not MIN_POLL_SECONDS <= seconds <= MAX_POLL_SECONDS:
        context.add("poll_interval", git.where("poll_interval"), f"{quoted(text)} is not between 1m and 24h")
        return 0
    return int(seconds)
