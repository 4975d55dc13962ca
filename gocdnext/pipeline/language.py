"""The keys of a pipeline file and the shape of their values (spec-pipelines 2 and 3.1): a table, nothing else."""

from __future__ import annotations

from gocdnext.pipeline.nodes import MAX_KEYS, Node, Scalar
from gocdnext.pipeline.problems import Problems
from gocdnext.pipeline.schema import BAD, Block, Boolean, Fields, Integer, ListOf, MapOf, Number, Raw, Text

MAX_JOBS = MAX_KEYS
"""Jobs of one file, hidden ones included."""

TEXT, BOOLEAN, INTEGER, NUMBER = Text(), Boolean(), Integer(), Number()
TEXTS = ListOf(TEXT)
TEXT_MAP = MapOf(TEXT)


class OutputEntry:
    """`alias: NAME` or `alias: {env, masked}`; always read as the second (3.10)."""

    fields = Fields("an output", {"env": TEXT, "masked": BOOLEAN}, null=True)

    def read(self, node: Node, problems: Problems) -> object:
        if not isinstance(node, Scalar):
            return self.fields.read(node, problems)
        name = TEXT.read(node, problems)
        if name is BAD:
            return BAD
        block = Block(node)
        block.values["env"], block.nodes["env"] = name or "", node
        return block


class Audience:
    """One text or a list of them (3.11)."""

    def read(self, node: Node, problems: Problems) -> object:
        if not isinstance(node, Scalar):
            return TEXTS.read(node, problems)
        value = TEXT.read(node, problems)
        return (value,) if isinstance(value, str) else value


WHEN = Fields(
    "`when`",
    {"event": TEXTS, "branch": TEXTS, "paths": TEXTS, "status": TEXTS},
    {"events": "did you mean `event`?", "branches": "did you mean `branch`?", "path": "did you mean `paths`?"},
)

SERVICE = Fields(
    "a service",
    {
        "image": TEXT,
        "name": TEXT,
        "env": TEXT_MAP,
        "command": TEXTS,
        "node_selector": TEXT_MAP,
        "tolerations": ListOf(
            Fields(
                "a toleration",
                {"key": TEXT, "operator": TEXT, "value": TEXT, "effect": TEXT, "toleration_seconds": INTEGER},
            )
        ),
    },
    {"variables": "environment variables of a service are under `env`", "alias": "did you mean `name`?"},
)

NOTIFICATION = Fields("a notification", {"on": TEXT, "uses": TEXT, "with": TEXT_MAP, "secrets": TEXTS})

MATERIAL = Fields(
    "a material",
    {
        "git": Fields(
            "a git material",
            {
                "url": TEXT,
                "branch": TEXT,
                "on": TEXTS,
                "auto_register_webhook": BOOLEAN,
                "secret_ref": TEXT,
                "poll_interval": TEXT,
            },
            {"events": "did you mean `on`?", "branches": "a material has one `branch`; add an entry for each"},
        ),
        "upstream": Fields("an upstream material", {"pipeline": TEXT, "stage": TEXT, "status": TEXT}),
        "cron": Fields("a cron material", {"expression": TEXT}, {"schedule": "did you mean `expression`?"}),
        "manual": BOOLEAN,
    },
)

_RESOURCES = Fields("resource values", {"cpu": TEXT, "memory": TEXT})

_TARGET_HINTS = dict.fromkeys(
    ("approval", "approvers", "gate", "required", "timeout"),
    "put a job with `approval:` before this one to wait for people",
)

_JOB_HINTS = {
    "strategy": "a matrix is written as `parallel: {matrix: [{NAME: [values]}]}`",
    "matrix": "a matrix is written as `parallel: {matrix: [{NAME: [values]}]}`",
    "only": "`when:` at the top of the file says which events and branches start a pipeline",
    "except": "`when:` at the top of the file says which events and branches start a pipeline",
    "if": "`when:` at the top of the file says which events and branches start a pipeline",
    "env": "environment variables are under `variables`",
    "environment_variables": "environment variables are under `variables`",
    "run": "commands are a list under `script`",
    "steps": "commands are a list under `script`",
    "commands": "commands are a list under `script`",
    "before_script": "put these lines first in `script`",
    "after_script": "put these lines last in `script`",
    "depends_on": "did you mean `needs`?",
    "dependencies": "did you mean `needs` or `needs_artifacts`?",
    "container": "did you mean `image`?",
    "services": "services are declared at the top of the file, for all jobs",
    "timeout-minutes": "did you mean `timeout`? It takes a duration such as `30m`",
    "reports": "did you mean `test_reports`?",
    "runs-on": "agents are chosen by `tags`",
}

JOB = Fields(
    "a job",
    {
        "stage": TEXT,
        "image": TEXT,
        "extends": TEXT,
        "needs": TEXTS,
        "script": TEXTS,
        "uses": TEXT,
        "with": TEXT_MAP,
        "settings": TEXT_MAP,
        "variables": TEXT_MAP,
        "secrets": TEXTS,
        "artifacts": Fields(
            "`artifacts`",
            {"paths": TEXTS, "optional": TEXTS, "when": TEXT, "expire_in": TEXT},
            {"path": "did you mean `paths`?", "name": "an artifact is known by its path"},
        ),
        "needs_artifacts": ListOf(
            Fields(
                "an entry of `needs_artifacts`",
                {"from_job": TEXT, "from_pipeline": TEXT, "paths": TEXTS, "dest": TEXT},
                {"job": "did you mean `from_job`?", "pipeline": "did you mean `from_pipeline`?"},
            )
        ),
        "cache": ListOf(Fields("a cache", {"key": TEXT, "paths": TEXTS})),
        "outputs": MapOf(OutputEntry()),
        "id_tokens": MapOf(
            Fields("an identity token", {"aud": Audience()}, {"audience": "did you mean `aud`?"}, null=True)
        ),
        "test_reports": TEXTS,
        "coverage_report": Fields("`coverage_report`", {"path": TEXT, "format": TEXT, "fail_under": NUMBER}),
        "parallel": Fields("`parallel`", {"matrix": ListOf(MapOf(TEXTS, ()), empty={}), "count": INTEGER}),
        "agent": Fields("`agent`", {"profile": TEXT, "tags": TEXTS}),
        "tags": TEXTS,
        "resources": Fields("`resources`", {"requests": _RESOURCES, "limits": _RESOURCES}),
        "docker": BOOLEAN,
        "cluster": TEXT,
        "approval": Fields(
            "`approval`",
            {
                "approvers": TEXTS,
                "approver_groups": TEXTS,
                "required": INTEGER,
                "quorum_by_label": MapOf(INTEGER, 0),
                "description": TEXT,
            },
            {"timeout": "`timeout` stands beside `approval`, not in it", "groups": "did you mean `approver_groups`?"},
        ),
        "timeout": TEXT,
        "retry": INTEGER,
        "deploy": Fields(
            "`deploy`",
            {
                "environment": TEXT,
                "version": TEXT,
                "revision": TEXT,
                "target": Fields(
                    "`target`",
                    {"cluster": TEXT, "application": TEXT, "sync_mode": TEXT, "namespace": TEXT},
                    _TARGET_HINTS,
                    null=True,
                ),
            },
            {"name": "did you mean `environment`?", "cluster": "`cluster` stands in `target`, or beside `deploy`"},
        ),
        "environment": Raw(),
        "rules": ListOf(Fields("a rule", {"if": TEXT, "changes": TEXTS, "exists": TEXTS, "when": TEXT})),
        "when": WHEN,
    },
    _JOB_HINTS,
)

PIPELINE = Fields(
    "a pipeline",
    {
        "version": TEXT,
        "name": TEXT,
        "include": ListOf(Fields("an include", {"local": TEXT, "remote": TEXT, "template": TEXT})),
        "template": TEXT,
        "materials": ListOf(MATERIAL),
        "stages": TEXTS,
        "variables": TEXT_MAP,
        "jobs": MapOf(JOB, partial=True, limit=MAX_JOBS),
        "concurrency": TEXT,
        "supersede": TEXT,
        "when": WHEN,
        "services": ListOf(SERVICE),
        "notifications": ListOf(NOTIFICATION),
    },
    {
        "on": "the events that start a pipeline are listed under `when: {event: […]}`",
        "env": "environment variables are under `variables`",
        "secrets": "secrets are listed by each job that uses them",
        "image": "each job has its own `image`; share it with `extends`",
        "defaults": "share settings with a job whose name starts with a dot, and `extends`",
        "default": "share settings with a job whose name starts with a dot, and `extends`",
        "timeout": "each job has its own `timeout`",
        "retry": "each job has its own `retry`",
        "rules": "`when:` says which events, branches and paths start a pipeline",
        "workflow": "`when:` says which events, branches and paths start a pipeline",
        "triggers": "did you mean `materials`?",
    },
    null=True,
)
