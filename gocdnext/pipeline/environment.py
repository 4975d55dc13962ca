"""The environment, plugin settings and masks of one attempt of a job (spec-pipelines 8.2, 8.4, 8.5).

Pure: everything comes as an argument, and the same arguments give the same result. Substitution looks only into what
stands in the pipeline file or in a profile's plain variables: secrets, tokens, built-ins and outputs of other jobs are
put in whole and never scanned (design 9, decision 4). Messages name references, never values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import msgspec

from gocdnext.pipeline.model import Deploy, Job
from gocdnext.pipeline.substitution import (
    NeededJob,
    Pieces,
    Sources,
    SubstitutionError,
    joined,
    needs_pass,
    outside,
    soft_pass,
    strict_pass,
    written,
)

MIN_OUTPUT_MASK_BYTES = 8
"""Outputs of other jobs that are shorter are only masked when they are declared `masked`."""
MIN_LINE_MASK = 8
"""Characters of a line of a multi-line secret that is worth a mask of its own."""
SHORT_SHA = 8
_COMMIT = re.compile(r"[0-9a-f]{7,64}", re.IGNORECASE)
_UNRESOLVED_BUILTIN = re.compile(r"\$\{(CI_[A-Za-z0-9_]*)\}")


class BuiltinFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the server knows about a run, for the built-in variables. `cause_detail` is the run's own (9.4)."""

    run_id: str
    run_counter: int
    pipeline_id: str
    pipeline_name: str
    project_id: str
    project_slug: str
    cause: str
    revision: str = ""
    """The primary revision (8.4); empty for a run without one."""
    branch: str = ""
    cause_detail: Mapping[str, object] = {}
    outcome: str = ""
    """How the run has ended, for notifications: success, failed or canceled. Empty for every other job."""


class JobEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """What an assignment carries. `settings` are the plugin's, by their names in the file."""

    env: dict[str, str]
    masks: tuple[str, ...]
    """Texts to hide in logs, longest first."""
    settings: dict[str, str]


class DeployReference(msgspec.Struct, frozen=True):
    version: str
    revision: str


def builtin_variables(facts: BuiltinFacts, job_name: str) -> dict[str, str]:
    """The variables of 8.4, and CI_COMMIT_BRANCH, CI_PIPELINE_NAME and CI_PROJECT_SLUG, which recipes expect.

    Notifications also get CI_PIPELINE and CI_PIPELINE_STATUS: the plugins of the field read these names.
    """
    found = {
        "CI": "true",
        "GOCDNEXT": "true",
        "CI_RUN_ID": facts.run_id,
        "CI_RUN_COUNTER": str(facts.run_counter),
        "CI_PIPELINE_ID": facts.pipeline_id,
        "CI_PIPELINE_NAME": facts.pipeline_name,
        "CI_PROJECT_ID": facts.project_id,
        "CI_PROJECT_SLUG": facts.project_slug,
        "CI_JOB_NAME": job_name,
        "CI_CAUSE": facts.cause,
    }
    if facts.revision:
        found |= {"CI_COMMIT_SHA": facts.revision, "CI_COMMIT_SHORT_SHA": facts.revision[:SHORT_SHA]}
    if facts.branch:
        found |= {"CI_BRANCH": facts.branch, "CI_COMMIT_BRANCH": facts.branch}
    if facts.outcome:
        found |= {"CI_PIPELINE": facts.pipeline_name, "CI_PIPELINE_STATUS": facts.outcome}
    return found | _cause_variables(facts.cause, facts.cause_detail)


_PULL_REQUEST = {
    "CI_PULL_REQUEST_KEY": "pr_number",
    "CI_PULL_REQUEST_BRANCH": "pr_head_ref",
    "CI_PULL_REQUEST_BASE": "pr_base_ref",
    "CI_PULL_REQUEST_TITLE": "pr_title",
    "CI_PULL_REQUEST_AUTHOR": "pr_author",
    "CI_PULL_REQUEST_URL": "pr_url",
    "CI_PULL_REQUEST_LABELS": "pr_labels",
}
_TAG = {"CI_TAG_NAME": "tag_name", "CI_TAG_MESSAGE": "tag_message", "CI_TAG_AUTHOR": "tagger"}
_UPSTREAM = {
    "CI_UPSTREAM_PIPELINE": "upstream_pipeline",
    "CI_UPSTREAM_RUN_COUNTER": "upstream_run_counter",
    "CI_UPSTREAM_STAGE": "upstream_stage",
}


def _cause_variables(cause: str, detail: Mapping[str, object]) -> dict[str, str]:
    names: dict[str, str] = {}
    if cause == "pull_request":
        names |= _PULL_REQUEST
    elif cause == "tag":
        names |= _TAG
    counter = detail.get("upstream_run_counter")
    if isinstance(counter, int | float) and counter > 0:
        names |= _UPSTREAM
    values = {name: _text(detail.get(key)) for name, key in names.items()}
    return {name: value for name, value in values.items() if value}


def _text(value: object) -> str:
    """A detail as text: whole numbers plainly, lists with commas; what cannot be told (and NUL) is left out."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int | float):
        return str(int(value)) if value == int(value) else str(value)
    if isinstance(value, list | tuple):
        return ",".join(part for part in map(_text, value) if part)
    return ""


def build_environment(
    job: Job,
    facts: BuiltinFacts,
    *,
    pipeline_variables: Mapping[str, str] | None = None,
    matrix_key: str = "",
    secrets: Mapping[str, str] | None = None,
    needs: Mapping[str, NeededJob] | None = None,
    profile: Mapping[str, str] | None = None,
    profile_secrets: Mapping[str, str] | None = None,
    id_tokens: Mapping[str, str] | None = None,
    kubeconfig: str | None = None,
    more_masks: Iterable[str] = (),
) -> JobEnvironment:
    """Everything of 8.2 for one attempt. Raises `SubstitutionError`; its message is the error of the failed job.

    pipeline_variables: None for jobs of policies, which do not see them.
    secrets: values by name; only those that the job lists are used, and one that is missing fails the job.
    needs: the outputs of exactly the jobs that this one needs.
    more_masks: credentials that are in no variable (clone tokens, parts of a cluster credential).
    """
    own_secrets = _job_secrets(job, secrets or {})
    hidden_profile = profile_secrets or {}
    hidden = {**hidden_profile, **own_secrets, **(id_tokens or {})}
    if kubeconfig is not None:
        hidden["PLUGIN_KUBECONFIG"] = kubeconfig
    builtins = _outside(builtin_variables(facts, job.name))
    secret_pieces = _outside(own_secrets)
    needed = needs or {}

    open_profile = {name: text for name, text in (profile or {}).items() if name not in hidden_profile}
    plain = {**open_profile, **(pipeline_variables or {}), **job.variables, **_matrix_variables(matrix_key)}
    over = {**secret_pieces, **_outside(id_tokens or {})}
    if kubeconfig is not None:
        over["PLUGIN_KUBECONFIG"] = outside(kubeconfig)
    over |= builtins
    # What a later layer replaces anyway is not resolved: it could only fail for nothing.
    open_values = {
        name: _resolved(f"variable {name}", text, needed, (secret_pieces, builtins))
        for name, text in plain.items()
        if name not in over
    }
    env = {**_outside(hidden_profile), **open_values, **over}
    settings = job.plugin.settings if job.plugin is not None else {}
    return JobEnvironment(
        env={name: joined(pieces) for name, pieces in env.items()},
        masks=_masks(hidden.values(), needed, more_masks),
        settings=_settings(settings, needed, (secret_pieces, env)),
    )


def deploy_reference(
    deploy: Deploy, facts: BuiltinFacts, job_name: str, needs: Mapping[str, NeededJob] | None = None
) -> DeployReference:
    """Version and revision of a deployment: needs, strict and soft pass over built-ins only (8.2).

    An empty version is the short commit id; an empty revision is the version if it looks like a commit id, else the
    run's commit. Raises `SubstitutionError`.
    """
    builtins = builtin_variables(facts, job_name)
    sources = (_outside(builtins),)

    def text(what: str, raw: str) -> str:
        pieces = soft_pass(_resolved(what, raw, needs or {}, sources), sources)
        for piece in pieces:
            left = None if piece.sealed else _UNRESOLVED_BUILTIN.search(piece.text)
            if left:
                raise SubstitutionError("unresolved", f"{what}: unresolved reference ${{{left[1]}}}", [left[1]])
        return joined(pieces)

    version = text("deploy version", deploy.version).strip() or builtins.get("CI_COMMIT_SHORT_SHA", "")
    if not version:
        message = "deploy version: it is empty and the run has no CI_COMMIT_SHORT_SHA; set `deploy.version`"
        raise SubstitutionError("unresolved", message, ["CI_COMMIT_SHORT_SHA"])
    revision = text("deploy revision", deploy.revision).strip()
    if not revision:
        revision = version if _COMMIT.fullmatch(version) else facts.revision
    return DeployReference(version, revision)


def _job_secrets(job: Job, secrets: Mapping[str, str]) -> dict[str, str]:
    missing = [name for name in dict.fromkeys(job.secrets) if name not in secrets]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        message = f"secrets: no value for {shown}; create it for the project, or take it out of the job"
        raise SubstitutionError("missing_secret", message, missing)
    return {name: secrets[name] for name in job.secrets}


def _matrix_variables(key: str) -> dict[str, str]:
    """`GOCDNEXT_MATRIX` and the dimensions of an instance key `D1=v1,D2=v2`; nothing for a plain job."""
    if not key:
        return {}
    pairs = (pair.partition("=") for pair in key.split(","))
    return {"GOCDNEXT_MATRIX": key, **{name: value for name, _, value in pairs}}


def _resolved(what: str, text: str, needed: Mapping[str, NeededJob], sources: Sources) -> Pieces:
    return _named(what, lambda: strict_pass(needs_pass(written(text), needed), sources))


def _settings(settings: Mapping[str, str], needed: Mapping[str, NeededJob], sources: Sources) -> dict[str, str]:
    return {
        name: joined(soft_pass(_resolved(f"setting {name}", text, needed, sources), sources))
        for name, text in settings.items()
    }


def _named(what: str, action: Callable[[], Pieces]) -> Pieces:
    """Run a pass; its error says where the reference stands. Errors of the needs pass keep their agreed beginning."""
    try:
        return action()
    except SubstitutionError as error:
        message = f"{error} ({what})" if str(error).startswith("needs outputs: ") else f"{what}: {error}"
        if error.kind == "unresolved":
            message += "; only secrets listed by the job and built-in variables can be referred to here"
        raise SubstitutionError(error.kind, message, error.names) from None


def _masks(hidden: Iterable[str], needed: Mapping[str, NeededJob], more: Iterable[str]) -> tuple[str, ...]:
    """Each text once, longest first; a secret of several lines also line by line, because logs come in lines."""
    masks: set[str] = set()
    for value in (*hidden, *more):
        masks.add(value)
        if "\n" in value:
            masks.update(line for line in map(str.strip, value.splitlines()) if len(line) >= MIN_LINE_MASK)
    for job in needed.values():
        for outputs in job.instances.values():
            masks.update(
                output.value
                for output in outputs.values()
                if output.masked or len(output.value.encode(errors="replace")) >= MIN_OUTPUT_MASK_BYTES
            )
    masks.discard("")
    return tuple(sorted(masks, key=lambda mask: (-len(mask), mask)))


def _outside(values: Mapping[str, str]) -> dict[str, Pieces]:
    return {name: outside(value) for name, value in values.items()}
