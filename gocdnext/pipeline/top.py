"""The top level of a file besides jobs, services and materials: name, stages, modes, `when`, notifications
(spec-pipelines 1.1, 2, 2.1, 2.3)."""

from __future__ import annotations

from gocdnext.pipeline import globs, model
from gocdnext.pipeline.context import Context
from gocdnext.pipeline.problems import quoted
from gocdnext.pipeline.schema import Block

RESERVED_STAGE = "_notifications"
EVENTS = ("push", "pull_request", "tag", "manual", "cron", "upstream")
NOTIFY_ON = ("failure", "success", "always", "canceled")


def name(top: Block, filename: str, context: Context) -> str:
    """The pipeline's name: the key `name`, otherwise the file's name without folder and last extension."""
    given = top.text("name")
    base = filename.replace("\\", "/").rsplit("/", 1)[-1]
    found = given or (base.rpartition(".")[0] if "." in base else base)
    if top.has("name") and not given and "name" in top.bad:
        return found
    if not found:
        context.add("name_empty", top.where("name"), "the pipeline has no name", "set `name:`")
    elif ":" in found:
        where = "the pipeline name" if given else "the file name, used as the pipeline name,"
        context.add("name_colon", top.where("name"), f"{where} {quoted(found)} contains a colon", "set another `name:`")
    return found


def stages(top: Block, context: Context) -> tuple[str, ...]:
    names = top.texts("stages")
    if "stages" not in top.bad:
        context.stages = {stage: index for index, stage in enumerate(names)}
    for index, stage in enumerate(names):
        if stage == RESERVED_STAGE:
            context.add("stage_reserved", top.item("stages", index), f"the stage name `{stage}` is reserved")
    return names


def concurrency(top: Block, context: Context) -> str:
    """`serial` or empty, which is the default `parallel`."""
    return _choice(top, "concurrency", ("parallel", "serial"), context)


def supersede(top: Block, context: Context) -> str:
    """`branch`, `pipeline` or empty, which is the default `off`."""
    return _choice(top, "supersede", ("off", "branch", "pipeline"), context)


def _choice(top: Block, key: str, allowed: tuple[str, ...], context: Context) -> str:
    value = top.text(key).strip().lower()
    if value and value not in allowed:
        choices = ", ".join(f"`{choice}`" for choice in allowed)
        hint = "write `off`" if value == "false" else ""
        context.add(key, top.where(key), f"{quoted(top.text(key))} is not one of {choices}", hint)
    return "" if value in ("", allowed[0]) else value


def when(top: Block, context: Context) -> model.When:
    block = top.block("when")
    if block is None:
        return model.NO_WHEN
    events, branches, paths = block.texts("event"), block.texts("branch"), block.texts("paths")
    for index, event in enumerate(events):
        if event not in EVENTS:
            hint = f"write `{event.lower()}`" if event.lower() in EVENTS else f"one of {', '.join(EVENTS)}"
            context.add("when_event", block.item("event", index), f"{quoted(event)} is not an event", hint)
    if block.texts("status"):
        hint = "remove it; a notification with `on:` reacts to the status of a run"
        context.add("when_status", block.where("status"), "`status` is not supported in `when`", hint)
    for index, pattern in enumerate(paths):
        flaw = _path_flaw(pattern)
        if flaw:
            context.add("when_paths", block.item("paths", index), f"the path pattern {quoted(pattern)} {flaw}")
    if not events and not branches and not paths:
        return model.NO_WHEN
    return model.When(events=events, branches=branches, paths=paths)


def _path_flaw(pattern: str) -> str:
    if not pattern:
        return "is empty"
    if pattern.startswith("/"):
        return "starts with a slash; paths are relative to the repository"
    if ".." in pattern.split("/"):
        return "leaves the repository with `..`"
    return globs.flaw(pattern)


def notifications(top: Block, context: Context) -> tuple[model.Notification, ...] | None:
    """None when the key is absent: the project's own list counts then."""
    if "notifications" not in top:
        return None
    found = []
    for block in top.blocks("notifications"):
        on, uses = block.text("on").strip().lower(), block.text("uses").strip()
        if on not in NOTIFY_ON and (on or block.lacks("on")):
            hint = "write `canceled`" if on == "cancelled" else f"one of {', '.join(NOTIFY_ON)}"
            message = f"{quoted(block.text('on'))} is not a moment to notify" if on else "the notification lacks `on`"
            context.add("notification_on", block.where("on"), message, hint)
        if not uses and block.lacks("uses"):
            context.add(
                "notification_uses", block.where("uses"), "the notification lacks `uses`", "name the plugin to run"
            )
        found.append(model.Notification(on=on, uses=uses, with_=block.map("with"), secrets=block.texts("secrets")))
    return tuple(found)
