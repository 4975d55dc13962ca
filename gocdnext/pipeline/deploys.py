"""What marks a job as a deployment or as acting on an environment (spec-pipelines 3.15, 3.16)."""

from __future__ import annotations

import re

from gocdnext.pipeline import model, scalars
from gocdnext.pipeline.context import CLUSTER, ENVIRONMENT, Context
from gocdnext.pipeline.nodes import Node, Scalar
from gocdnext.pipeline.problems import quoted
from gocdnext.pipeline.schema import UNREADABLE, Block
from gocdnext.pipeline.substitution import bodies

SYNC_MODES = ("trigger", "observe")
MAX_REFERENCE = 256
"""Characters of one reference in `version` or `revision`."""

_REFERENCE = re.compile(r"needs\.[A-Za-z0-9_-]+\.outputs\.[a-z][a-zA-Z0-9_-]*|CI_[A-Z0-9_]+")


def deploy(job: Block, executes: bool, context: Context) -> model.Deploy | None:
    block = job.block("deploy")
    if block is None:
        return None
    if not executes and UNREADABLE not in job.bad:
        message = "the job deploys, but has nothing to execute"
        context.add("deploy_not_executable", job.where("deploy"), message, "add `script` or `uses`")
    environment = block.text("environment").strip()
    if not environment:
        if block.lacks("environment"):
            message = "`deploy` does not say which `environment`"
            context.add("deploy_environment", block.where("environment"), message)
    elif not ENVIRONMENT.fullmatch(environment):
        message = f"{quoted(environment)} is not the name of an environment"
        context.add("deploy_environment", block.where("environment"), message, _ENVIRONMENT_HINT)
    return model.Deploy(
        environment=environment,
        version=_reference_text(block, "version", context),
        revision=_reference_text(block, "revision", context),
        target=_target(block, context),
    )


_ENVIRONMENT_HINT = "up to 64 letters, digits, `.`, `_` and `-`, starting with a letter or digit"


def _reference_text(block: Block, key: str, context: Context) -> str:
    text = block.text(key).strip()
    for body in bodies(text):
        if len(body) > MAX_REFERENCE or not _REFERENCE.fullmatch(body):
            message = f"`{key}` is shown to people and cannot use {quoted('${{ ' + body + ' }}')}"
            hint = "only `${{ needs.JOB.outputs.ALIAS }}` and `${{ CI_… }}` are possible here"
            context.add("deploy_ref", block.where(key), message, hint)
            break
    return text


def _target(deploy: Block, context: Context) -> model.DeployTarget | None:
    block = deploy.block("target")
    if block is None:
        return None
    values = {key: block.text(key).strip() for key in ("cluster", "application", "sync_mode", "namespace")}

    def refuse(key: str, message: str) -> None:
        if key in block or block.lacks(key):
            context.add("deploy_target", block.where(key), message)

    for key in ("cluster", "application", "sync_mode"):
        if not values[key]:
            refuse(key, f"the deploy target lacks its `{key}`")
    if values["cluster"] and not CLUSTER.fullmatch(values["cluster"]):
        refuse("cluster", f"{quoted(values['cluster'])} is not the name of a cluster")
    if values["sync_mode"] and values["sync_mode"] not in SYNC_MODES:
        refuse("sync_mode", f"{quoted(values['sync_mode'])} is neither `trigger` nor `observe`")
    return model.DeployTarget(**values)


def environment(job: Block, executes: bool, deployed: model.Deploy | None, context: Context) -> str:
    """The environment a job names without deploying; empty when the key is absent."""
    node = job.values.get("environment")
    if not isinstance(node, Node):
        return ""
    name, flaw = _environment_name(node)
    if flaw:
        context.add(
            "environment_value", node, flaw, _ENVIRONMENT_HINT if name else "name the environment, in quotes if need be"
        )
        return ""
    if not executes and UNREADABLE not in job.bad:
        message = "the job acts on an environment, but has nothing to execute"
        context.add("environment_not_executable", node, message, "add `script` or `uses`")
    if deployed is not None and deployed.environment and deployed.environment != name:
        message = f"the job names {quoted(name)}, but deploys to {quoted(deployed.environment)}"
        context.add("environment_mismatch", node, message, "`environment` can be left out beside `deploy`")
    return name


def _environment_name(node: Node) -> tuple[str, str]:
    """The name and what is wrong with it. Only a string of YAML will do: `1.0` or `no` as a name would be a trap."""
    if not isinstance(node, Scalar):
        return "", "`environment` is the name of one environment, as text"
    try:
        if scalars.core_tag(node) != "str":
            return "", f"`environment` is the name of an environment, not {scalars.described(node)}"
    except scalars.Misfit as misfit:
        return "", str(misfit)
    name = node.value.strip()
    if not name:
        return "", "`environment` is empty"
    return name, "" if ENVIRONMENT.fullmatch(name) else f"{quoted(name)} is not the name of an environment"
