"""When a GitLab job or pipeline runs: `rules`, `only`, `except`, `when` and their expressions as conditions."""

from __future__ import annotations

import msgspec

from gocdnext.importers import expressions
from gocdnext.importers.conditions import (
    ALWAYS,
    ANY_BRANCH,
    DEFAULT_BRANCH,
    NEVER,
    Branch,
    Condition,
    Event,
    Not,
    Tag,
    Unknown,
    Variable,
    every,
    matching,
    negated,
    some,
)
from gocdnext.importers.expressions import Literal, Name, NotUnderstood, Null, Operation, Pattern, Tree
from gocdnext.importers.notes import Notes
from gocdnext.importers.reading import Part
from gocdnext.pipeline.nodes import Mapping, Scalar, Sequence
from gocdnext.pipeline.problems import quoted

MAX_RULES = 60

_SOURCES: dict[str, Condition] = {
    "push": Event("push"),
    "merge_request_event": Event("pull_request"),
    "schedule": Event("cron"),
    "web": Event("manual"),
    "api": Event("manual"),
    "trigger": Event("manual"),
    "pipeline": Event("upstream"),
    "parent_pipeline": Event("upstream"),
}
_REFS: dict[str, Condition] = {
    "branches": ANY_BRANCH,
    "tags": Tag("*"),
    "merge_requests": Event("pull_request"),
    "schedules": Event("cron"),
    "web": Event("manual"),
    "api": Event("manual"),
    "triggers": Event("manual"),
    "pushes": Event("push"),
    "pipelines": Event("upstream"),
}
_MERGE_REQUEST = ("CI_MERGE_REQUEST_IID", "CI_MERGE_REQUEST_ID")
_TARGETS: dict[str, type[Branch | Tag]] = {
    "CI_COMMIT_BRANCH": Branch,
    "CI_COMMIT_TAG": Tag,
    "CI_COMMIT_REF_NAME": Branch,
}


class Rules(msgspec.Struct, frozen=True):
    """When a job is part of a run, and how."""

    condition: Condition
    manual: bool = False
    allow_failure: bool = False
    given: bool = False
    """The job says something about it itself."""


def job_rules(job: Part, called: str, notes: Notes, *, workflow: bool) -> Rules:
    """Of one job. With `workflow: rules` in the file a job without rules of its own runs always."""
    when = job.text("when")
    if "rules" in job:
        job.skip("only", "except")
        return _rules(job, called, notes, when)
    condition: Condition = ALWAYS if workflow else Not(Event("pull_request"))
    given = "only" in job or "except" in job
    if "only" in job:
        condition = _refs(job, "only", called, notes)
    if "except" in job:
        if "only" not in job:
            condition = ALWAYS
        condition = every(condition, negated(_refs(job, "except", called, notes)))
    job.skip("only", "except", "start_in")
    condition = every(condition, _moment(when, job.line("when"), called, notes))
    return Rules(condition, manual=when == "manual", allow_failure=when == "manual", given=given)


def workflow_rules(part: Part, notes: Notes) -> Condition:
    """When there are pipelines at all."""
    return _rules(part, "the workflow", notes, "").condition


def _moment(when: str, line: int, called: str, notes: Notes) -> Condition:
    """What `when` on a job or rule adds."""
    if when in ("", "on_success", "manual"):
        return ALWAYS
    if when == "never":
        return NEVER
    if when == "always":
        notes.add(line, f"`when: always` of {called}", "a job does not run after a failed stage here")
        return ALWAYS
    if when == "delayed":
        notes.add(line, f"`when: delayed` of {called}", "there is no delay here; it runs at once")
        return ALWAYS
    return Unknown(f"when: {when}")


def _rules(part: Part, called: str, notes: Notes, default: str) -> Rules:
    items = part.items("rules")
    if len(items) > MAX_RULES:
        notes.add(part.line("rules"), f"`rules` of {called}", f"more than {MAX_RULES} rules; not translated")
        return Rules(Unknown("too many rules"), given=True)
    condition: Condition = NEVER
    manual = allowed = False
    for node in reversed(items):
        if not isinstance(node, Mapping):
            notes.add(node, f"a rule of {called}", "not a mapping; left out")
            continue
        rule = Part(node, notes)
        when = rule.text("when") or default
        matches = _matches(rule, called, notes, never=when == "never")
        manual = manual or when == "manual"
        allowed = allowed or rule.flag("allow_failure")
        if matches is None:
            continue
        runs = _moment(when, rule.line("when"), called, notes)
        condition = every(negated(matches), condition) if runs == NEVER else some(every(matches, runs), condition)
        rule.rest(f"a rule of {called}", {"variables": "set them in the script, where they are needed"})
    return Rules(condition, manual=manual, allow_failure=allowed, given=True)


def _matches(rule: Part, called: str, notes: Notes, *, never: bool) -> Condition | None:
    """When a rule counts; None for one that cannot be looked at and is safe to pass over."""
    text = rule.text("if")
    condition = _parsed(text) if text else ALWAYS
    for key in ("changes", "exists"):
        if key in rule:
            rule.take(key)
            advice = "runs whatever was changed" if not never else "this exception is left out"
            if key == "changes":
                advice += "; `when: {paths: […]}` at the top limits a whole pipeline to paths"
            notes.add(rule.line(key), f"`{key}` in a rule of {called}", advice)
            if never:
                return None
    return condition


def _parsed(text: str) -> Condition:
    try:
        return _condition(expressions.gitlab(text), text)
    except NotUnderstood:
        return Unknown(text)


def _condition(tree: Tree, text: str) -> Condition:
    if isinstance(tree, Operation):
        if tree.operator == "!":
            return negated(_condition(tree.parts[0], text))
        if tree.operator in ("&&", "||"):
            join = every if tree.operator == "&&" else some
            return join(*(_condition(part, text) for part in tree.parts))
        found = _comparison(tree, text)
        return negated(found) if tree.operator in ("!=", "!~") and not isinstance(found, Unknown) else found
    if isinstance(tree, Name):
        return _present(tree.name, text)
    return Unknown(text)


def _present(name: str, text: str) -> Condition:
    if name in _MERGE_REQUEST:
        return Event("pull_request")
    if name == "CI_COMMIT_BRANCH":
        return ANY_BRANCH
    if name == "CI_COMMIT_TAG":
        return Tag("*")
    if name.startswith(("CI_", "GITLAB_")):
        return Unknown(text)
    return Variable(name, None)


def _comparison(tree: Operation, text: str) -> Condition:
    """The equality or the match; the caller negates it."""
    left, right = tree.parts
    if isinstance(right, Name) and not isinstance(left, Name):
        left, right = right, left
    if not isinstance(left, Name):
        return Unknown(text)
    name = left.name
    if tree.operator in ("=~", "!~"):
        if not isinstance(right, Pattern) or right.flags or name not in _TARGETS:
            return Unknown(text)
        return matching(_TARGETS[name], right.value) or Unknown(text)
    if isinstance(right, Null) or (isinstance(right, Literal) and not right.value):
        return negated(_present(name, text)) if not isinstance(_present(name, text), Unknown) else Unknown(text)
    if isinstance(right, Name):
        same_branch = {name, right.name} <= {"CI_COMMIT_BRANCH", "CI_COMMIT_REF_NAME", "CI_DEFAULT_BRANCH"}
        return DEFAULT_BRANCH if same_branch and "CI_DEFAULT_BRANCH" in (name, right.name) else Unknown(text)
    if not isinstance(right, Literal) or tree.operator not in ("==", "!="):
        return Unknown(text)
    if name == "CI_PIPELINE_SOURCE":
        return _SOURCES.get(right.value, Unknown(text))
    if name in _TARGETS:
        return Unknown(text) if "*" in right.value else _TARGETS[name](right.value)
    return Unknown(text) if name.startswith(("CI_", "GITLAB_")) else Variable(name, right.value)


def _refs(job: Part, key: str, called: str, notes: Notes) -> Condition:
    """`only` or `except`: a list of refs, or a mapping with `refs`, `variables`, `changes`."""
    node = job.take(key)
    if isinstance(node, Scalar | Sequence):
        return some(*(_ref(text) for text in job.texts(key)))
    part = job.part(key)
    if part is None:
        return ALWAYS
    found: list[Condition] = []
    if "refs" in part:
        found.append(some(*(_ref(text) for text in part.texts("refs"))))
    if "variables" in part:
        found.append(some(*(_parsed(text) for text in part.texts("variables"))))
    if "changes" in part:
        part.take("changes")
        notes.add(part.line("changes"), f"`{key}: changes` of {called}", "runs whatever was changed")
    part.rest(f"`{key}` of {called}", {})
    # `except` leaves out what matches any of the keys, `only` keeps what matches all of them.
    if key == "except":
        return some(*found) if found else NEVER
    return every(*found) if found else ALWAYS


def _ref(text: str) -> Condition:
    if text in _REFS:
        return _REFS[text]
    if text.startswith("/"):
        body = text[1:-1] if text.endswith("/") and len(text) > 1 else "(?"
        branch, tag = matching(Branch, body), matching(Tag, body)
        return some(branch, tag) if branch is not None and tag is not None else Unknown(quoted(text))
    if "@" in text or "*" in text or "$" in text:
        return Unknown(quoted(text))
    return Branch(text)
