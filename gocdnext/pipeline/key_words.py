"""What editors show and complete for each key of a pipeline file: one table by path, beside the shapes of `language`.

A path is the keys from the top joined by dots; `*` stands for a free name, `[]` for the elements of a list. A test
holds the table against the reader's own keys, so neither can gain a key without the other. Data only.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gocdnext.pipeline.context import CLUSTER, ENVIRONMENT, NAME
from gocdnext.pipeline.deploys import SYNC_MODES
from gocdnext.pipeline.gates import MAX_LABELS
from gocdnext.pipeline.job_parts import ALIAS, ARTIFACT_WHEN, COVERAGE_FORMATS, MAX_ID_TOKENS, MAX_OUTPUTS
from gocdnext.pipeline.materials import GIT_EVENTS
from gocdnext.pipeline.services import EFFECTS, MAX_SELECTORS, MAX_TOLERATIONS
from gocdnext.pipeline.top import EVENTS, NOTIFY_ON


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """`says` is Markdown of one or two sentences. What is not set is not restricted."""

    says: str
    choices: tuple[str, ...] = ()
    loose: bool = False
    """Blanks around a choice and its case do not count."""
    required: tuple[str, ...] = ()
    names: str = ""
    """Pattern of the free names of a map."""
    pattern: str = ""
    most: int = 0
    """Entries at most."""
    filled: bool = False
    """At least one entry."""
    least: float | None = None
    highest: float | None = None
    examples: tuple[str, ...] = ()
    deprecated: bool = False


def _w(says: str, **more: object) -> Words:
    return Words(says=says, **more)  # type: ignore[arg-type]


_DURATION = "A duration such as `90s`, `30m` or `1h30m`."
_CPU = "CPUs in Kubernetes notation."
_MEMORY = "Memory in Kubernetes notation."
_CONDITION = "Not supported on jobs: `when` at the top of the file says what starts the pipeline."

WORDS: Final[dict[str, Words]] = {
    "": _w("A gocdnext pipeline: stages in order, each a barrier, and jobs in the stages."),
    "version": _w("Accepted and ignored."),
    "name": _w("Name of the pipeline. Default: the file name without its ending.", pattern="^[^:]*$"),
    "include": _w("Accepted and ignored: nothing is included."),
    "include[]": _w("Accepted and ignored."),
    "include[].local": _w("Accepted and ignored."),
    "include[].remote": _w("Accepted and ignored."),
    "include[].template": _w("Accepted and ignored."),
    "template": _w("Stored with the pipeline, without effect."),
    "materials": _w("What starts the pipeline besides the repository of its project."),
    "materials[]": _w("One of `git`, `upstream`, `cron` and `manual`.", filled=True),
    "materials[].git": _w("A git repository and branch."),
    "materials[].git.url": _w("Where to clone from.", examples=("https://git.example.org/team/app.git",)),
    "materials[].git.branch": _w("Branch. Default: `main`."),
    "materials[].git.on": _w("Events that start the pipeline. Default: `[push]`."),
    "materials[].git.on[]": _w("An event of the repository.", choices=GIT_EVENTS),
    "materials[].git.auto_register_webhook": _w("Register the webhook at the provider during apply."),
    "materials[].git.secret_ref": _w("Name of the secret used for the checkout."),
    "materials[].git.poll_interval": _w("Ask the repository this often, `1m` to `24h`. Default: not at all."),
    "materials[].upstream": _w("A stage of another pipeline of the project: its success starts this one."),
    "materials[].upstream.pipeline": _w("Name of the other pipeline."),
    "materials[].upstream.stage": _w("Its stage."),
    "materials[].upstream.status": _w("Default, and the only one that ever fires: `success`."),
    "materials[].cron": _w("A schedule in the time zone of the server."),
    "materials[].cron.expression": _w(
        "Five fields (minute hour day month weekday), or `@hourly`, `@daily`, `@every 1h`.",
        examples=("0 3 * * *", "@daily"),
    ),
    "materials[].manual": _w("`true`: started by people only."),
    "stages": _w("The stages in order. A stage begins when the one before it has succeeded."),
    "stages[]": _w("Name of a stage."),
    "variables": _w(
        "Environment of every job. `${{ NAME }}` in a value is a secret of the job or a built-in variable."
    ),
    "variables.*": _w("Value, always text."),
    "jobs": _w("The jobs by name. A name with a leading dot is a template for `extends` and never runs."),
    "jobs.*": _w("A job: commands (`script`), a plugin (`uses`) or a gate (`approval`)."),
    "concurrency": _w("`serial`: one run at a time. Default: `parallel`.", choices=("parallel", "serial"), loose=True),
    "supersede": _w(
        "Whether a new run cancels the older ones of its branch, or all of the pipeline. Default: `off`.",
        choices=("off", "branch", "pipeline"),
        loose=True,
    ),
    "when": _w("Which events of the project's repository start the pipeline."),
    "when.event": _w("Events. Default: `[push]`. A start by hand is always possible."),
    "when.event[]": _w("An event.", choices=EVENTS),
    "when.branch": _w("Branches, exact names. Default: the default branch of the repository."),
    "when.branch[]": _w("Exact name of a branch; no pattern."),
    "when.paths": _w("Only for pushes and pull requests that change a file matching one of these."),
    "when.paths[]": _w("Pattern relative to the repository: `*`, `?`, `**`, `{a,b}`, `[abc]`.", examples=("src/**",)),
    "when.status": _w("Not supported: use `notifications`.", deprecated=True),
    "when.status[]": _w("Not supported."),
    "services": _w("Containers that run beside every job of the pipeline."),
    "services[]": _w("A container, reached by its name.", required=("image",)),
    "services[].image": _w("Container image.", examples=("postgres:17", "redis:8")),
    "services[].name": _w("Host name. Default: the last part of the image without its tag."),
    "services[].env": _w("Environment of the service, passed as it is written."),
    "services[].env.*": _w("Value."),
    "services[].command": _w("Arguments for the image."),
    "services[].command[]": _w("One argument."),
    "services[].node_selector": _w("Labels a Kubernetes node must have.", most=MAX_SELECTORS),
    "services[].node_selector.*": _w("Value of the label."),
    "services[].tolerations": _w("Taints of Kubernetes nodes to tolerate.", most=MAX_TOLERATIONS),
    "services[].tolerations[]": _w("A toleration as in Kubernetes."),
    "services[].tolerations[].key": _w("Key of the taint; left out only with `operator: Exists`."),
    "services[].tolerations[].operator": _w("Default: `Equal`.", choices=("Equal", "Exists", "")),
    "services[].tolerations[].value": _w("Value of the taint; not with `Exists`."),
    "services[].tolerations[].effect": _w("Effect of the taint; empty for all.", choices=EFFECTS),
    "services[].tolerations[].toleration_seconds": _w("Seconds; only with `effect: NoExecute`."),
    "notifications": _w("Plugins to run when a run ends. Left out: the list of the project. `[]`: none."),
    "notifications[]": _w("A plugin and its moment.", required=("on", "uses")),
    "notifications[].on": _w("When to notify.", choices=NOTIFY_ON, loose=True),
    "notifications[].uses": _w("The plugin.", examples=("owner/slack@v1",)),
    "notifications[].with": _w("Settings of the plugin."),
    "notifications[].with.*": _w("Value of a setting."),
    "notifications[].secrets": _w("Secrets the plugin gets."),
    "notifications[].secrets[]": _w("Name of a secret."),
}

_JOB: Final[dict[str, Words]] = {
    "stage": _w("The stage of the job, one of `stages`."),
    "image": _w("Container image to run in. Default: that of the runner profile.", examples=("python:3.13",)),
    "extends": _w("Inherit from another job: its maps are merged, everything else given here replaces it."),
    "needs": _w("Jobs of the same or an earlier stage that must have succeeded first."),
    "needs[]": _w("Name of a job."),
    "script": _w("Commands, run by one shell that stops at the first error."),
    "script[]": _w("One or more lines of shell."),
    "uses": _w("A plugin instead of a script: an image with its own entry point.", examples=("owner/name@v1",)),
    "with": _w("Settings of the plugin named by `uses`."),
    "with.*": _w("Value of a setting."),
    "settings": _w("Older form of `with`, for an `image` without a script."),
    "settings.*": _w("Value of a setting."),
    "variables": _w("Environment of the job; wins over that of the pipeline."),
    "variables.*": _w("Value, always text."),
    "secrets": _w("Secrets the job gets as variables; their values are hidden in the log."),
    "secrets[]": _w("Name of a secret."),
    "artifacts": _w("Files to keep after the job."),
    "artifacts.paths": _w("Patterns below the workspace; a missing one fails the job."),
    "artifacts.paths[]": _w("Path or pattern."),
    "artifacts.optional": _w("As `paths`, but may be missing."),
    "artifacts.optional[]": _w("Path or pattern."),
    "artifacts.when": _w("Default: `on_success`.", choices=ARTIFACT_WHEN, loose=True),
    "artifacts.expire_in": _w("How long to keep them, such as `12h` or `7d`."),
    "needs_artifacts": _w("Files of other jobs to fetch first. List the jobs in `needs` too if they share a stage."),
    "needs_artifacts[]": _w("The artifacts of one job.", required=("from_job",)),
    "needs_artifacts[].from_job": _w("The job that made them."),
    "needs_artifacts[].from_pipeline": _w("The upstream pipeline it belongs to. Default: this one."),
    "needs_artifacts[].paths": _w("Only these paths. Default: all."),
    "needs_artifacts[].paths[]": _w("Path as it is listed in `artifacts`."),
    "needs_artifacts[].dest": _w("Folder to put them into. Default: `./`."),
    "cache": _w("Folders to keep between runs."),
    "cache[]": _w("A cache of the project.", required=("key", "paths")),
    "cache[].key": _w(
        'Name of the cache; `{{ hash "FILE" }}` stands for a hash of file contents.',
        examples=('go-{{ hash "go.sum" }}',),
    ),
    "cache[].paths": _w("Folders below the workspace.", filled=True),
    "cache[].paths[]": _w("Path."),
    "outputs": _w(
        "Values for later jobs: alias to a variable that the job writes into `$GOCDNEXT_OUTPUT_FILE`.",
        names=f"^{ALIAS.pattern}$",
        most=MAX_OUTPUTS,
    ),
    "outputs.*": _w("Name of the variable, or `{env, masked}`.", required=("env",), pattern=f"^{NAME.pattern}$"),
    "outputs.*.env": _w("Name of the variable.", pattern=f"^{NAME.pattern}$"),
    "outputs.*.masked": _w("Hide the value in the logs of the jobs that use it."),
    "id_tokens": _w(
        "Identity tokens (OIDC) by the variable they arrive in.", names=f"^{NAME.pattern}$", most=MAX_ID_TOKENS
    ),
    "id_tokens.*": _w("An identity token.", required=("aud",)),
    "id_tokens.*.aud": _w("Audience, or a list of them."),
    "id_tokens.*.aud[]": _w("Audience."),
    "test_reports": _w("JUnit or xUnit XML files to read after the job."),
    "test_reports[]": _w("Path or pattern.", examples=("reports/junit.xml",)),
    "coverage_report": _w("A coverage report to read after the job.", required=("path", "format")),
    "coverage_report.path": _w("Path below the workspace.", pattern="^[^/]"),
    "coverage_report.format": _w("Its format.", choices=COVERAGE_FORMATS),
    "coverage_report.fail_under": _w("Percentage below which the job fails; 0 for never.", least=0, highest=100),
    "parallel": _w("Several instances of the job."),
    "parallel.matrix": _w("Dimensions; there is one instance per combination of their values."),
    "parallel.matrix[]": _w("Dimensions by name, each a list of values.", names=f"^{NAME.pattern}$", filled=True),
    "parallel.matrix[].*": _w("The values; the instance gets its own in a variable of that name.", filled=True),
    "parallel.matrix[].*[]": _w("A value, without `,` and `=`.", pattern="^[^,=]*$"),
    "parallel.count": _w("Accepted and ignored."),
    "agent": _w("Which agents may take the job."),
    "agent.profile": _w("Runner profile."),
    "agent.tags": _w("Tags the agent must have, as in `tags`."),
    "agent.tags[]": _w("A tag."),
    "tags": _w("Tags the agent must have."),
    "tags[]": _w("A tag."),
    "resources": _w("What the job needs on Kubernetes."),
    "docker": _w("The job can use the Docker API."),
    "cluster": _w(
        "A registered cluster; its credential arrives in `PLUGIN_KUBECONFIG`.", pattern=f"^({CLUSTER.pattern})?$"
    ),
    "approval": _w("A gate: waits for people and executes nothing."),
    "approval.approvers": _w("User names or e-mail addresses. No list at all: anybody signed in."),
    "approval.approvers[]": _w("User name or e-mail address."),
    "approval.approver_groups": _w("Groups whose members may approve."),
    "approval.approver_groups[]": _w("Name of a group."),
    "approval.required": _w("How many must approve. Default: 1."),
    "approval.quorum_by_label": _w("Other numbers for pull requests with a label.", most=MAX_LABELS),
    "approval.quorum_by_label.*": _w("How many must approve.", least=1),
    "approval.description": _w("What people are asked."),
    "timeout": _w(f"{_DURATION} On a gate 1m to 2160h, or `never`.", examples=("30m",)),
    "retry": _w("Repeat the failed job up to this often, 0 to 10."),
    "deploy": _w("The job deploys to an environment.", required=("environment",)),
    "deploy.environment": _w("The environment.", pattern=rf"^\s*{ENVIRONMENT.pattern}\s*$", examples=("production",)),
    "deploy.version": _w("What is deployed, with `${{ CI_… }}` and outputs of needed jobs. Default: the short commit."),
    "deploy.revision": _w("The commit. Default: that of the run."),
    "deploy.target": _w("An application of Argo CD.", required=("cluster", "application", "sync_mode")),
    "deploy.target.cluster": _w("The registered cluster it runs on."),
    "deploy.target.application": _w("Name of the application."),
    "deploy.target.sync_mode": _w("`trigger` a synchronisation, or only `observe` it.", choices=SYNC_MODES),
    "deploy.target.namespace": _w("Namespace of the application. Default: `argocd`."),
    "environment": _w(
        "The environment the job acts on, so that a freeze holds it. Quote what looks like a number.",
        pattern=rf"^\s*{ENVIRONMENT.pattern}\s*$",
    ),
    "rules": _w(_CONDITION, deprecated=True),
    "rules[]": _w(_CONDITION),
    "rules[].if": _w(_CONDITION),
    "rules[].changes": _w(_CONDITION),
    "rules[].changes[]": _w(_CONDITION),
    "rules[].exists": _w(_CONDITION),
    "rules[].exists[]": _w(_CONDITION),
    "rules[].when": _w(_CONDITION),
    "when": _w(_CONDITION, deprecated=True),
    **{
        f"when.{key}": _w(_CONDITION)
        for part in ("event", "branch", "paths", "status")
        for key in (part, f"{part}[]")
    },
    **{
        f"resources.{part}{key}": _w(says)
        for part, of in (("requests", "What is kept free"), ("limits", "What it may use at most"))
        for key, says in (("", f"{of}."), (".cpu", f"{of}: {_CPU}"), (".memory", f"{of}: {_MEMORY}"))
    },
}  # fmt: skip

WORDS.update({f"jobs.*.{key}": words for key, words in _JOB.items()})
