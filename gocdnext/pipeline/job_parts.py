"""The parts of a job that agents act on: artifacts, caches, outputs, identity tokens, coverage (spec 3.7-3.12).

Each function reads one block, reports what is wrong with it and answers its normal form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection

from gocdnext import durations
from gocdnext.pipeline import model
from gocdnext.pipeline.context import NAME, RESERVED_PREFIXES, Context
from gocdnext.pipeline.problems import quoted
from gocdnext.pipeline.schema import Block, each

ARTIFACT_WHEN = ("on_success", "on_failure", "always")
COVERAGE_FORMATS = ("go-cover", "lcov", "cobertura", "jacoco")
MAX_OUTPUTS = 64
MAX_ID_TOKENS = 16
MAX_CACHE_KEY_BYTES = 1024
MAX_CACHE_TOKENS = 5
MAX_CACHE_ARGUMENT_BYTES = 255

ALIAS = re.compile(r"[a-z][a-zA-Z0-9_-]*")
CACHE_TOKEN = re.compile(r'\{\{\s*hash\s+"([^"]*)"\s*\}\}')
_CACHE_LITERAL = re.compile(r"[A-Za-z0-9_.-]*")


def artifacts(job: Block, context: Context) -> model.Artifacts | None:
    block = job.block("artifacts")
    if block is None:
        return None
    when = block.text("when").strip() or "on_success"
    if when not in ARTIFACT_WHEN:
        message = f"{quoted(when)} is not one of {', '.join(ARTIFACT_WHEN)}"
        context.add("artifacts_when", block.where("when"), message)
    seen: set[str] = set()
    required = _distinct(block.texts("paths"), seen)
    optional = _distinct(block.texts("optional"), seen)
    return model.Artifacts(
        when=when, required=required, optional=optional, expire_in_seconds=_expire_in(block, context)
    )


def _distinct(paths: tuple[str, ...], seen: set[str]) -> tuple[str, ...]:
    """The paths not seen yet, without regard to trailing slashes; the first spelling is kept."""
    kept = []
    for path in paths:
        form = path.rstrip("/")
        if form not in seen:
            seen.add(form)
            kept.append(path)
    return tuple(kept)


def _expire_in(block: Block, context: Context) -> int:
    """Seconds; 0 = as long as the server keeps artifacts. What is no length of time is refused at apply."""
    text = block.text("expire_in").strip()
    if text.lower() in ("", "never", "off"):
        return 0
    seconds = durations.retention(text)
    if seconds is None or seconds < 0:
        message = f"`expire_in: {quoted(text)[1:-1]}` is not a length of time"
        context.refusals.add("artifacts_expire_in", block.where("expire_in"), message, "write `12h` or `7d`")
        return 0
    return seconds


def needs_artifacts(job: Block, context: Context) -> tuple[model.NeedsArtifacts, ...]:
    found = []
    for block in job.blocks("needs_artifacts"):
        from_job = block.text("from_job")
        if not from_job.strip() and block.lacks("from_job"):
            message = "the entry does not say `from_job`, the job that made the artifacts"
            context.add("needs_artifacts_from", block.where("from_job"), message)
        found.append(
            model.NeedsArtifacts(
                from_job=from_job,
                from_pipeline=block.text("from_pipeline"),
                paths=block.texts("paths"),
                dest=block.text("dest"),
            )
        )
    return tuple(found)


def caches(job: Block, context: Context) -> tuple[model.Cache, ...]:
    found = []
    for block in job.blocks("cache"):
        key, paths = block.text("key"), block.texts("paths")
        if not key.strip():
            if block.lacks("key"):
                context.add("cache_key_missing", block.where("key"), "the cache lacks a `key`")
        else:
            flaw = cache_key_flaw(key)
            if flaw:
                hint = 'a key is a text such as `go-{{ hash "go.sum" }}`'
                context.add("cache_key_template", block.where("key"), f"the cache key {flaw}", hint)
        if not paths and block.lacks("paths"):
            context.add("cache_paths_empty", block.where("paths"), "the cache lacks `paths`")
        found.append(model.Cache(key=key, paths=paths))
    return tuple(found)


def cache_key_flaw(key: str) -> str:
    """What is wrong with a cache key as half a sentence, or empty (spec-pipelines 3.9)."""
    if len(key.encode()) > MAX_CACHE_KEY_BYTES:
        return f"is longer than {MAX_CACHE_KEY_BYTES} bytes"
    literals, count, at = [], 0, 0
    while (start := key.find("{{", at)) >= 0:
        token = CACHE_TOKEN.match(key, start)
        if token is None:
            return 'has a `{{` that is not part of `{{ hash "FILE" }}`'
        if flaw := _hash_flaw(token[1]):
            return flaw
        literals.append(key[at:start])
        count, at = count + 1, token.end()
    if not count:
        return ""
    if count > MAX_CACHE_TOKENS:
        return f"has {count} `{{{{ hash }}}}` parts, at most {MAX_CACHE_TOKENS} are allowed"
    if not _CACHE_LITERAL.fullmatch("".join(literals) + key[at:]):
        return "may only use letters, digits, `-`, `_` and `.` beside `{{ hash }}`"
    return ""


def _hash_flaw(argument: str) -> str:
    if not argument:
        return "hashes no file"
    if len(argument.encode()) > MAX_CACHE_ARGUMENT_BYTES:
        return f"has a file pattern longer than {MAX_CACHE_ARGUMENT_BYTES} bytes"
    if argument.startswith("/") or ".." in argument:
        return f"hashes {quoted(argument)}, which may lie outside the workspace"
    return ""


def outputs(job: Block, context: Context) -> dict[str, model.Output]:
    entries = job.named_blocks("outputs")
    if len(entries) > MAX_OUTPUTS:
        message = f"{len(entries)} outputs, at most {MAX_OUTPUTS} are allowed"
        context.add("outputs_limit", job.where("outputs"), message)
        return {}
    found = {}
    for alias, block in each(entries):
        env = block.text("env")
        if not ALIAS.fullmatch(alias):
            hint = "start with a lower-case letter; then letters, digits, `_` and `-`"
            context.add("output_alias", block.key, f"{quoted(alias)} is not a name for an output", hint)
        if not NAME.fullmatch(env) and (env or block.lacks("env")):
            message = f"{quoted(env)} is not a variable name" if env else "the output lacks its variable name"
            context.add("output_env", block.where("env"), message, "write `alias: NAME`")
        found[alias] = model.Output(env=env, masked=block.flag("masked"))
    return found


def id_tokens(job: Block, context: Context) -> dict[str, tuple[str, ...]]:
    entries = job.named_blocks("id_tokens")
    if len(entries) > MAX_ID_TOKENS:
        message = f"{len(entries)} identity tokens, at most {MAX_ID_TOKENS} are allowed"
        context.add("id_tokens_limit", job.where("id_tokens"), message)
        return {}
    in_use = names_in_use(job, context) if entries else {}
    found = {}
    for name, block in each(entries):
        if not NAME.fullmatch(name):
            context.add("id_token_name", block.key, f"{quoted(name)} is not a variable name")
        elif name.upper().startswith(RESERVED_PREFIXES):
            context.add("id_token_name", block.key, f"{quoted(name)} uses a prefix reserved for built-in variables")
        for kind, names in in_use.items():
            if name in names:
                context.add("id_token_collision", block.key, f"the identity token {quoted(name)} is also a {kind}")
        audiences = tuple(audience.strip() for audience in block.texts("aud"))
        if not (audiences and all(audiences)) and (audiences or block.lacks("aud")):
            message = "the identity token lacks its audience" if not any(audiences) else "an audience is blank"
            context.add("id_token_aud", block.where("aud"), message, "write `{aud: https://…}`")
        found[name] = audiences
    return found


def names_in_use(job: Block, context: Context) -> dict[str, Collection[str]]:
    """The variables and secrets that a job sees, by what they are."""
    return {
        "variable of the job": job.map("variables"),
        "variable of the pipeline": context.variables,
        "secret of the job": frozenset(job.texts("secrets")),
    }


def coverage_report(job: Block, context: Context) -> model.CoverageReport | None:
    block = job.block("coverage_report")
    if block is None:
        return None
    path, form = block.text("path"), block.text("format")
    fail_under = block.values.get("fail_under", 0)
    threshold = float(fail_under) if isinstance(fail_under, int | float) and fail_under else model.NO_THRESHOLD

    def refuse(key: str, message: str) -> None:
        if key in block or block.lacks(key):
            context.add("coverage_report", block.where(key), message)

    if not path.strip():
        refuse("path", "`coverage_report` lacks its `path`")
    elif path.startswith("/") or ".." in path.split("/"):
        refuse("path", f"the path {quoted(path)} leaves the workspace; write it relative to the workspace")
    if form not in COVERAGE_FORMATS:
        choices = ", ".join(COVERAGE_FORMATS)
        refuse(
            "format", f"{quoted(form)} is not one of {choices}" if form else f"`format` is missing: one of {choices}"
        )
    if not math.isfinite(threshold) or not 0 <= threshold <= 100:
        refuse("fail_under", "`fail_under` is a percentage between 0 and 100")
    return model.CoverageReport(path=path, format=form, fail_under=threshold)


def resources(job: Block) -> model.Resources:
    block = job.block("resources")
    if block is None:
        return model.NO_RESOURCES

    def values(key: str) -> model.ResourceValues:
        part = block.block(key)
        if part is None or not (part.text("cpu") or part.text("memory")):
            return model.NO_VALUES
        return model.ResourceValues(cpu=part.text("cpu"), memory=part.text("memory"))

    requests, limits = values("requests"), values("limits")
    if requests is limits is model.NO_VALUES:
        return model.NO_RESOURCES
    return model.Resources(requests=requests, limits=limits)
