"""Runner profiles: what one may say, and what jobs that name one become (spec-pipelines 3.5, contract-admin 7.11). Pure.

An apply gives a job the tags, the image and the resources; environment and secrets come when the job is dispatched
(`runs.assignment`). A profile called `default` gives its resources to jobs that name none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gocdnext.pipeline import model, quantities
from gocdnext.pipeline.model import Job, Pipeline, Resources, ResourceValues, Toleration
from gocdnext.pipeline.services import EFFECTS, MAX_SELECTORS, MAX_TOLERATIONS, is_label_value, is_qualified_name

DEFAULT = "default"
MAX_TERMS, MAX_EXPRESSIONS, MAX_VALUES = 10, 20, 100
"""Of the preferred affinity of one profile; expressions and values in total."""
MAX_TAGS = 50
ENV_KEY = "^[A-Z_][A-Z0-9_]*$"
_ENV_KEY = re.compile(ENV_KEY[1:-1])
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_WHOLE = re.compile(r"-?[0-9]{1,18}")


class Expression(model.Struct, frozen=True):
    key: str
    operator: str
    values: tuple[str, ...] = ()


class Affinity(model.Struct, frozen=True):
    """A preference for nodes, as Kubernetes has it."""

    weight: int
    match_expressions: tuple[Expression, ...]


class Placement(model.Struct, frozen=True):
    """Where jobs may run, for engines that choose among nodes."""

    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    preferred_node_affinity: tuple[Affinity, ...] = ()


ANYWHERE = Placement()


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A profile without its secrets. Quantities are those of Kubernetes, empty for none."""

    name: str
    description: str = ""
    engine: str = "kubernetes"
    default_image: str = ""
    default_cpu_request: str = ""
    default_cpu_limit: str = ""
    default_mem_request: str = ""
    default_mem_limit: str = ""
    max_cpu: str = ""
    max_mem: str = ""
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = {}
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    preferred_node_affinity: tuple[Affinity, ...] = ()
    env: dict[str, str] = {}


def flaws(profile: Profile) -> Iterator[str]:
    """What is wrong with a profile that somebody sent, the rules of placement last."""
    for key in profile.env:
        if not _ENV_KEY.fullmatch(key):
            yield f'env key "{key[:80]}" invalid: use UPPER_SNAKE_CASE ({ENV_KEY})'
    yield from _quantity_flaws(profile)
    if len(profile.tags) > MAX_TAGS:
        yield f"more than {MAX_TAGS} tags"
    for tag in profile.tags:
        if not tag.strip() or len(tag) > 255 or _CONTROL.search(tag):
            yield "a tag must be one line of 1 to 255 characters"
    if len(profile.default_image) > 1024 or any(c.isspace() for c in profile.default_image):
        yield "default_image must be the name of an image"
    yield from _selector_flaws(profile.node_selector)
    if len(profile.tolerations) > MAX_TOLERATIONS:
        yield f"more than {MAX_TOLERATIONS} tolerations"
    for toleration in profile.tolerations:
        yield from _toleration_flaws(toleration)
    yield from _affinity_flaws(profile.preferred_node_affinity)


def is_env_key(key: str) -> bool:
    """Whether a secret of a profile may be called so."""
    return _ENV_KEY.fullmatch(key) is not None


def merged(pipeline: Pipeline, profiles: Mapping[str, Profile]) -> tuple[Pipeline, list[str]]:
    """The pipeline with what profiles give its jobs, and what is wrong with it."""
    problems: list[str] = []
    jobs = tuple(_merged(job, profiles, problems) for job in pipeline.jobs)
    told = [f'pipeline "{pipeline.name}": {problem}' for problem in problems]
    return (pipeline if jobs == pipeline.jobs else msgspec.structs.replace(pipeline, jobs=jobs)), told


def _merged(job: Job, profiles: Mapping[str, Profile], problems: list[str]) -> Job:
    if job.approval is not None:
        return job
    if not job.profile:
        default = profiles.get(DEFAULT)
        return job if default is None else msgspec.structs.replace(job, resources=_resources(job.resources, default))
    profile = profiles.get(job.profile)
    if profile is None:
        problems.append(
            f'job "{job.name}": unknown runner profile "{job.profile[:80]}": an administrator can make it with '
            "`gocdnext profiles create`"
        )
        return job
    resources = _resources(job.resources, profile)
    problems.extend(f'job "{job.name}": {problem}' for problem in _over(resources, profile))
    image = job.image or (profile.default_image if job.kind == "script" else "")
    tags = (*job.tags, *(tag for tag in dict.fromkeys(profile.tags) if tag not in job.tags))
    return msgspec.structs.replace(job, resources=resources, image=image, tags=tags)


def _resources(own: Resources, profile: Profile) -> Resources:
    requests = ResourceValues(
        cpu=own.requests.cpu or profile.default_cpu_request, memory=own.requests.memory or profile.default_mem_request
    )
    limits = ResourceValues(
        cpu=own.limits.cpu or profile.default_cpu_limit, memory=own.limits.memory or profile.default_mem_limit
    )
    # The very objects that stand for nothing: msgspec leaves a default out when it is the same one.
    requests = model.NO_VALUES if requests == model.NO_VALUES else requests
    limits = model.NO_VALUES if limits == model.NO_VALUES else limits
    made = Resources(requests=requests, limits=limits)
    return model.NO_RESOURCES if made == model.NO_RESOURCES else made


def _over(resources: Resources, profile: Profile) -> Iterator[str]:
    """Why resources do not fit: a request over its limit, a value over the profile's maximum."""
    pairs = (
        ("cpu", resources.requests.cpu, resources.limits.cpu, profile.max_cpu),
        ("memory", resources.requests.memory, resources.limits.memory, profile.max_mem),
    )
    for what, request, limit, most in pairs:
        try:
            asked, allowed, cap = (quantities.number(text) if text else None for text in (request, limit, most))
        except quantities.QuantityError as error:
            yield f"{what}: {error}"
            continue
        if asked is not None and allowed is not None and asked > allowed:
            yield f"{what} request {request} is over its limit {limit}"
        for kind, text, value in (("request", request, asked), ("limit", limit, allowed)):
            if cap is not None and value is not None and value > cap:
                yield f'{what} {kind} {text} is over the maximum {most} of runner profile "{profile.name}"'


def _quantity_flaws(profile: Profile) -> Iterator[str]:
    fields = (
        "default_cpu_request",
        "default_cpu_limit",
        "default_mem_request",
        "default_mem_limit",
        "max_cpu",
        "max_mem",
    )
    for name in fields:
        text = getattr(profile, name)
        try:
            if text:
                quantities.number(text)
        except quantities.QuantityError as error:
            yield f"{name}: {error}"
            return
    defaults = Resources(
        requests=ResourceValues(cpu=profile.default_cpu_request, memory=profile.default_mem_request),
        limits=ResourceValues(cpu=profile.default_cpu_limit, memory=profile.default_mem_limit),
    )
    yield from (f"default {flaw}" for flaw in _over(defaults, profile))


def _selector_flaws(selector: Mapping[str, str]) -> Iterator[str]:
    if len(selector) > MAX_SELECTORS:
        yield f"more than {MAX_SELECTORS} entries in node_selector"
    for key, value in selector.items():
        if not is_qualified_name(key):
            yield f'node_selector: "{key[:80]}" is not a Kubernetes label name'
        if not is_label_value(value):
            yield f'node_selector: "{value[:80]}" is not a Kubernetes label value'


def _toleration_flaws(given: Toleration) -> Iterator[str]:
    if given.operator not in ("Equal", "Exists"):
        yield f'toleration: operator "{given.operator[:80]}" is neither Equal nor Exists'
    elif given.operator == "Exists" and given.value:
        yield "toleration: operator Exists takes no value"
    elif given.operator == "Equal" and not is_label_value(given.value):
        yield f'toleration: "{given.value[:80]}" is not a Kubernetes label value'
    if given.key and not is_qualified_name(given.key):
        yield f'toleration: "{given.key[:80]}" is not a Kubernetes label name'
    elif not given.key and given.operator != "Exists":
        yield "toleration: key is required unless operator is Exists"
    if given.effect not in EFFECTS:
        yield f'toleration: effect "{given.effect[:80]}" is not one of {", ".join(EFFECTS[1:])}'
    if given.toleration_seconds is not None and given.toleration_seconds < 0:
        yield "toleration: toleration_seconds cannot be negative"
    elif given.toleration_seconds is not None and given.effect != "NoExecute":
        yield "toleration: toleration_seconds needs effect NoExecute"


def _affinity_flaws(terms: tuple[Affinity, ...]) -> Iterator[str]:
    expressions = [expression for term in terms for expression in term.match_expressions]
    if len(terms) > MAX_TERMS:
        yield f"preferred_node_affinity: more than {MAX_TERMS} terms"
    if len(expressions) > MAX_EXPRESSIONS:
        yield f"preferred_node_affinity: more than {MAX_EXPRESSIONS} expressions"
    if sum(len(expression.values) for expression in expressions) > MAX_VALUES:
        yield f"preferred_node_affinity: more than {MAX_VALUES} values"
    for term in terms:
        if not 1 <= term.weight <= 100:
            yield "preferred_node_affinity: weight must be from 1 to 100"
        if not term.match_expressions:
            yield "preferred_node_affinity: a term needs an expression"
    for expression in expressions:
        yield from (f"preferred_node_affinity: {flaw}" for flaw in _expression_flaws(expression))


def _expression_flaws(given: Expression) -> Iterator[str]:
    if not is_qualified_name(given.key):
        yield f'"{given.key[:80]}" is not a Kubernetes label name'
    match given.operator:
        case "In" | "NotIn":
            if not given.values:
                yield f"operator {given.operator} needs values"
            yield from (
                f'"{value[:80]}" is not a Kubernetes label value' for value in given.values if not is_label_value(value)
            )
        case "Exists" | "DoesNotExist":
            if given.values:
                yield f"operator {given.operator} takes no values"
        case "Gt" | "Lt":
            if len(given.values) != 1 or not _WHOLE.fullmatch(given.values[0]):
                yield f"operator {given.operator} takes exactly one whole number"
        case _:
            yield f'operator "{given.operator[:80]}" is not one of In, NotIn, Exists, DoesNotExist, Gt, Lt'
