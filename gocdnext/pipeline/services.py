"""Services and where they may be scheduled (spec-pipelines 2.2). The scheduling rules are those of Kubernetes."""

from __future__ import annotations

import re

from gocdnext.pipeline import model
from gocdnext.pipeline.context import Context
from gocdnext.pipeline.problems import quoted
from gocdnext.pipeline.schema import Block, entry_node

MAX_SELECTORS = 20
MAX_TOLERATIONS = 20
EFFECTS = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_MAX_PREFIX = 253


def services(top: Block, context: Context) -> tuple[model.Service, ...]:
    return tuple(_service(block, context) for block in top.blocks("services"))


def derived_name(image: str) -> str:
    """The name a service gets from its image: the last path segment without tag and digest."""
    return image.strip().split("@", 1)[0].rsplit("/", 1)[-1].split(":", 1)[0].strip()


def _service(block: Block, context: Context) -> model.Service:
    image, name = block.text("image"), block.text("name").strip()
    if not image.strip():
        if block.lacks("image"):
            context.add(
                "service_image", block.where("image"), "the service lacks an `image`", "name the container image to run"
            )
    elif not name:
        name = derived_name(image)
        if not name and "name" not in block.bad:
            message = f"no name can be made from the image {quoted(image)}"
            context.add("service_name", block.where("image"), message, "set `name:`")
    selector = block.map("node_selector")
    _check_selector(block, selector, context)
    tolerations = block.blocks("tolerations")
    if len(tolerations) > MAX_TOLERATIONS:
        message = f"{len(tolerations)} tolerations, at most {MAX_TOLERATIONS} are allowed"
        context.add("service_scheduling", block.where("tolerations"), message)
    return model.Service(
        name=name,
        image=image,
        env=block.map("env"),
        command=block.texts("command"),
        node_selector=selector,
        tolerations=tuple(_toleration(toleration, context) for toleration in tolerations[:MAX_TOLERATIONS]),
    )


def _check_selector(block: Block, selector: dict[str, str], context: Context) -> None:
    node = block.where("node_selector")
    if len(selector) > MAX_SELECTORS:
        message = f"{len(selector)} entries in `node_selector`, at most {MAX_SELECTORS} are allowed"
        context.add("service_scheduling", node, message)
        return
    for key, value in selector.items():
        place = entry_node(node, key) or node
        if not is_qualified_name(key):
            context.add("service_scheduling", place, f"{quoted(key)} is not a Kubernetes label name")
        if not is_label_value(value):
            context.add("service_scheduling", place, f"{quoted(value)} is not a Kubernetes label value")


def _toleration(block: Block, context: Context) -> model.Toleration:
    key, value, effect = block.text("key"), block.text("value"), block.text("effect")
    operator = block.text("operator") or "Equal"
    seconds = block.integer("toleration_seconds") if "toleration_seconds" in block else None

    def refuse(field: str, message: str) -> None:
        if not block.bad:
            context.add("service_scheduling", block.where(field), message)

    if operator not in ("Equal", "Exists"):
        refuse("operator", f"the operator {quoted(operator)} is neither `Equal` nor `Exists`")
    elif operator == "Exists" and value:
        refuse("value", "a toleration with `operator: Exists` takes no `value`")
    elif operator == "Equal" and not is_label_value(value):
        refuse("value", f"{quoted(value)} is not a Kubernetes label value")
    if key and not is_qualified_name(key):
        refuse("key", f"{quoted(key)} is not a Kubernetes label name")
    elif not key and operator == "Equal":
        refuse("key", "a toleration lacks its `key`; only `operator: Exists` goes without")
    if effect not in EFFECTS:
        refuse("effect", f"the effect {quoted(effect)} is not one of {', '.join(EFFECTS[1:])}")
    if seconds is not None and seconds < 0:
        refuse("toleration_seconds", "`toleration_seconds` cannot be negative")
    elif seconds is not None and effect != "NoExecute":
        refuse("toleration_seconds", "`toleration_seconds` needs `effect: NoExecute`")
    return model.Toleration(operator=operator, key=key, value=value, effect=effect, toleration_seconds=seconds)


def is_label_value(value: str) -> bool:
    return not value or _LABEL.fullmatch(value) is not None


def is_qualified_name(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    if _LABEL.fullmatch(name) is None:
        return False
    if not slash:
        return True
    return 0 < len(prefix) <= _MAX_PREFIX and all(_DNS_LABEL.fullmatch(part) for part in prefix.split("."))
