"""One job after inheritance: what it executes, and its normal form (spec-pipelines 3)."""

from __future__ import annotations

import msgspec

from gocdnext import durations
from gocdnext.pipeline import deploys, gates, job_parts, matrix, model
from gocdnext.pipeline.context import CLUSTER, Context
from gocdnext.pipeline.problems import quoted
from gocdnext.pipeline.schema import UNREADABLE, Block
from gocdnext.pipeline.uses import resolve_uses

MAX_RETRY = 10
KUBECONFIG = "PLUGIN_KUBECONFIG"
"""The variable in which a job gets the credential of its `cluster`."""


class JobReader:
    """Makes normal forms of the jobs of one file; scripts that several jobs share are joined once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._scripts: dict[tuple[str, ...], str] = {}

    def read(self, name: str, job: Block) -> model.Job:
        """The normal form. Problems go to the context; a job that has some is not to be used."""
        context = self._context
        stage = _stage(job, context)
        cluster = _cluster(job, context)
        artifacts = job_parts.artifacts(job, context)
        cache = job_parts.caches(job, context)
        coverage = job_parts.coverage_report(job, context)
        outputs = job_parts.outputs(job, context)
        id_tokens = job_parts.id_tokens(job, context)
        needs_artifacts = job_parts.needs_artifacts(job, context)
        agent = job.block("agent")
        common = model.Job(
            name=name,
            stage=stage,
            kind="noop",
            image=job.text("image"),
            needs=job.texts("needs"),
            variables=job.map("variables"),
            secrets=job.texts("secrets"),
            tags=job.texts("tags") + (agent.texts("tags") if agent else ()),
            profile=agent.text("profile") if agent else "",
            docker=job.flag("docker"),
            cluster=cluster,
            resources=job_parts.resources(job),
            artifacts=artifacts,
            cache=cache,
            needs_artifacts=needs_artifacts,
            test_reports=job.texts("test_reports"),
            coverage_report=coverage,
            outputs=outputs,
            id_tokens=id_tokens,
        )
        if job.has("approval"):
            return msgspec.structs.replace(common, kind="gate", approval=gates.approval(job, context))
        return self._executing(common, job)

    def _executing(self, common: model.Job, job: Block) -> model.Job:
        context = self._context
        kind, script, plugin = self._task(job)
        # A job whose task could not be read is not blamed for having none.
        executes = kind != "noop" or bool(job.bad & {"script", "uses", "image", "settings"})
        deploy = deploys.deploy(job, executes, context)
        environment = deploys.environment(job, executes, deploy, context)
        instances = matrix.instances(job, context)
        if job.values.get("rules") or "rules" in job.bad:
            hint = "`when:` at the top of the file says which events, branches and paths start the pipeline"
            context.add("rules_unsupported", job.where("rules"), "`rules` on a job are not supported", hint)
        if job.has("when"):
            hint = "move it to the top of the file, where it counts for the whole pipeline"
            context.add("job_when_unsupported", job.where("when"), "`when` on a job is not supported", hint)
        return msgspec.structs.replace(
            common,
            kind=kind,
            script=script,
            plugin=plugin,
            deploy=deploy,
            environment=environment,
            instances=instances,
            timeout_seconds=_timeout(job, context),
            retry=_retry(job, context),
        )

    def _task(self, job: Block) -> tuple[model.JobKind, str, model.Plugin | None]:
        """What the job executes: a plugin, one shell text, a plugin in the older form, or nothing."""
        context, script, image = self._context, job.texts("script"), job.text("image")
        uses = job.text("uses")
        if uses:
            for key in ("script", "image"):
                if job.values.get(key):
                    message = f"`uses` brings its own image and commands, `{key}` cannot stand beside it"
                    context.add("uses_conflict", job.where("uses"), message, f"remove `uses` or `{key}`")
            resolved, flaw = resolve_uses(uses)
            if flaw:
                message = f"the plugin {quoted(uses)} {flaw}"
                context.add("uses_ref", job.where("uses"), message, "write `owner/name` or `owner/name@v1`")
            return "plugin", "", model.Plugin(image=resolved, settings=job.map("with"))
        if script:
            return "script", self._joined(script), None
        if image and "settings" in job:
            return "plugin", "", model.Plugin(image=image, settings=job.map("settings"))
        return "noop", "", None

    def _joined(self, script: tuple[str, ...]) -> str:
        """The lines as one shell text that stops at the first error."""
        if script not in self._scripts:
            self._scripts[script] = "\n".join(("set -e", *script))
        return self._scripts[script]


def _stage(job: Block, context: Context) -> str:
    stage = job.text("stage")
    if "stage" in job.bad or context.stages is None or stage in context.stages:
        return stage
    if not stage:
        if UNREADABLE not in job.bad:
            context.add("job_stage", job.where("stage"), "the job lacks its `stage`", "name one of `stages`")
        return stage
    hint = context.problems.suggest(stage, context.stages) or "add it to `stages`"
    context.add("job_stage", job.where("stage"), f"the stage {quoted(stage)} is not in `stages`", hint)
    return stage


def _cluster(job: Block, context: Context) -> str:
    cluster = job.text("cluster")
    if not cluster:
        return ""
    if not CLUSTER.fullmatch(cluster):
        hint = "lower-case letters, digits, `-` and `_`, at most 63"
        context.add("cluster_name", job.where("cluster"), f"{quoted(cluster)} is not the name of a cluster", hint)
    hint = "the credential of the cluster takes this place"
    if job.map("with").get("kubeconfig"):
        message = "`with.kubeconfig` cannot be set beside `cluster`"
        context.add("cluster_conflict", job.entry("with", "kubeconfig"), message, hint)
    for key, names in (
        ("variables", job.map("variables")),
        ("secrets", job.texts("secrets")),
        ("id_tokens", job.named_blocks("id_tokens")),
    ):
        if KUBECONFIG in names:
            message = f"`{KUBECONFIG}` cannot be set beside `cluster`"
            context.add("cluster_conflict", job.entry(key, KUBECONFIG), message, hint)
    parallel = job.block("parallel")
    entries = parallel.values.get("matrix", ()) if parallel else ()
    if isinstance(entries, tuple) and any(KUBECONFIG in entry for entry in entries):
        message = f"`{KUBECONFIG}` cannot be a dimension beside `cluster`"
        context.add("cluster_conflict", job.where("parallel"), message, hint)
    return cluster


def _timeout(job: Block, context: Context) -> int:
    """Seconds, 0 = no limit. A text that means nothing is left to apply and `validate` to refuse."""
    text = job.text("timeout").strip()
    if text.lower() in ("", "never", "off"):
        return 0
    seconds = durations.go_duration(text)
    if seconds is None or seconds < 0:
        message, hint = f"the timeout {quoted(text)} is not a duration", durations.hint(text)
        context.refusals.add("job_timeout", job.where("timeout"), message, hint)
        return 0
    return max(1, int(seconds)) if seconds else 0


def _retry(job: Block, context: Context) -> int:
    retry = job.integer("retry")
    if not 0 <= retry <= MAX_RETRY:
        message = f"`retry` is a number from 0 to {MAX_RETRY}"
        context.refusals.add("job_retry", job.where("retry"), message)
    return min(max(retry, 0), MAX_RETRY)
