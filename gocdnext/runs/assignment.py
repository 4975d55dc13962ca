"""What an agent is told of a job, built from the run's own snapshot and nothing else (protocol-agent 2.10). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from gocdnext.pipeline import model
from gocdnext.pipeline.environment import BuiltinFacts, DeployReference, build_environment, deploy_reference
from gocdnext.pipeline.identity import material_id
from gocdnext.pipeline.profiles import ANYWHERE, DEFAULT, Placement
from gocdnext.pipeline.substitution import NeededJob, OutputValue, SubstitutionError
from gocdnext.runs import identity
from gocdnext.runs.fetching import Download, FetchError, downloads
from gocdnext.runs.state import CANCELED, FAILED, NOTIFICATIONS_STAGE, SUCCESS, Job, Revision, Run


class AssignmentError(Exception):
    """The job can never be dispatched as it is: a reference leads nowhere, or it is not in the definition."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """One git material to check out into `target_dir`. Without a revision: the head of the branch."""

    material_id: UUID
    url: str
    revision: str
    branch: str
    target_dir: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt of one job, complete and resolved."""

    run_id: UUID
    job_id: UUID
    attempt: int
    definition: model.Job
    """The job's normal form: name, image, script or plugin, artifacts, caches, reports, timeout."""
    env: Mapping[str, str]
    services: tuple[model.Service, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    """The plugin's settings after substitution."""
    checkouts: tuple[Checkout, ...] = ()
    masks: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()
    service_generation: int = 0
    placement: Placement = ANYWHERE
    project_id: UUID | None = None
    from_fork: bool = False
    """It runs what somebody proposes from another repository (`Run.from_fork`)."""


@dataclass(frozen=True, slots=True)
class ProfileValues:
    """What jobs of a runner profile find in their environment."""

    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Variable -> why its value cannot be had."""
    placement: Placement = ANYWHERE


Mint = Callable[[Mapping[str, str], Sequence[str]], str]
"""Makes an identity token from claims and audiences."""
WITHHELD = "what a fork proposes gets no identity tokens; push the branch to the repository itself to run it with them"


@dataclass(frozen=True, slots=True)
class Reference:
    """Where another store has a value: which store, and what it is called there."""

    source: str
    path: str
    key: str


@dataclass(frozen=True, slots=True)
class SecretValues:
    """The secrets that jobs of one run ask for, as far as there are any of these names."""

    known: Mapping[str, str] = field(default_factory=dict, repr=False)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Name -> why its value cannot be had; never a part of it."""
    profiles: Mapping[str, ProfileValues] = field(default_factory=dict)
    """By name."""
    elsewhere: Mapping[str, Reference] = field(default_factory=dict)
    """Names whose values another store has, and has not told yet."""
    mint: Mint | None = field(default=None, repr=False)
    """Makes identity tokens; None when the server cannot."""
    no_mint: str = ""
    """Why it cannot."""


NO_SECRETS = SecretValues()


def build(run: Run, job: Job, secrets: SecretValues = NO_SECRETS) -> Assignment:
    """The assignment of the job's current attempt. Raises AssignmentError; its text is the job's error."""
    definition = run.definition_of(job)
    if definition is None:
        raise AssignmentError(f"job {job.name} is not in the definition this run was made from")
    for name in definition.secrets:
        if name in secrets.unreadable:
            raise AssignmentError(f"secrets: {name}: {secrets.unreadable[name]}")
    profile = _profile(run, definition, secrets)
    try:
        fetched = downloads(run, definition)
        made = build_environment(
            definition,
            _facts(run, outcome=_outcome(run) if definition.stage == NOTIFICATIONS_STAGE else ""),
            pipeline_variables=run.definition.variables,
            matrix_key=job.matrix_key,
            secrets=secrets.known,
            needs=_needed(run, definition),
            profile=profile.env,
            profile_secrets=profile.secrets,
            id_tokens=_id_tokens(run, job, definition, secrets),
        )
    except (SubstitutionError, FetchError) as error:
        raise AssignmentError(str(error)) from error
    return Assignment(
        run_id=run.id,
        job_id=job.id,
        attempt=job.attempt,
        definition=definition,
        env=made.env,
        services=run.definition.services,
        settings=made.settings,
        checkouts=_checkouts(run),
        masks=made.masks,
        downloads=fetched,
        service_generation=run.service_generation,
        placement=profile.placement,
        project_id=run.project_id,
        from_fork=run.from_fork,
    )


def primary_revision(revisions: Mapping[str, Revision]) -> Revision:
    """The revision a run is known by: materials sorted by id, the first with a branch, else the first (pipelines 8.4)."""
    ordered = [revisions[key] for key in sorted(revisions)]
    return next((entry for entry in ordered if entry.branch), ordered[0] if ordered else Revision(""))


def deploy_reference_of(run: Run, job: Job, deploy: model.Deploy) -> DeployReference:
    """Version and revision of the deployment that this attempt makes. Raises AssignmentError."""
    definition = run.definition_of(job)
    try:
        return deploy_reference(deploy, _facts(run), job.name, _needed(run, definition) if definition else {})
    except SubstitutionError as error:
        raise AssignmentError(str(error)) from error


def _profile(run: Run, definition: model.Job, values: SecretValues) -> ProfileValues:
    """What the job's runner profile gives it: the one it names, else `default`. What a fork proposes gets no secrets.

    Raises AssignmentError.
    """
    found = values.profiles.get(definition.profile or DEFAULT)
    if found is None:
        if definition.profile:
            raise AssignmentError(f"runner profile: there is no {definition.profile} any more; apply the project again")
        return ProfileValues()
    if run.from_fork:
        return ProfileValues(env=found.env, placement=found.placement)
    for key, reason in found.unreadable.items():
        raise AssignmentError(f"runner profile: {definition.profile or DEFAULT}: {key}: {reason}")
    return found


def _outcome(run: Run) -> str:
    """What a notification tells: a failed job counts more than a cancelled one (spec-execution 15)."""
    seen = {job.status for job in run.user_jobs}
    return next((status for status in (FAILED, CANCELED) if status in seen), SUCCESS)


def _id_tokens(run: Run, job: Job, definition: model.Job, secrets: SecretValues) -> dict[str, str]:
    """The tokens that the job asks for, by variable; new ones for each attempt. Raises AssignmentError."""
    if not definition.id_tokens:
        return {}
    if run.from_fork:
        raise AssignmentError(f"id_tokens: {WITHHELD}")
    if secrets.mint is None:
        raise AssignmentError(f"id_tokens: {secrets.no_mint}")
    claims = identity.claims(run, job, primary_revision(run.revisions))
    return {name: secrets.mint(claims, audience) for name, audience in definition.id_tokens.items()}


def _facts(run: Run, outcome: str = "") -> BuiltinFacts:
    primary = primary_revision(run.revisions)
    return BuiltinFacts(
        run_id=str(run.id),
        run_counter=run.counter,
        pipeline_id=str(run.pipeline_id),
        pipeline_name=run.definition.name,
        project_id=str(run.project_id),
        project_slug=run.project_slug,
        cause=run.cause,
        revision=primary.revision,
        branch=primary.branch,
        cause_detail=run.cause_detail,
        outcome=outcome,
    )


def _needed(run: Run, definition: model.Job) -> dict[str, NeededJob]:
    """The outputs of exactly the jobs that this one needs, of instances that succeeded."""
    found = {}
    for name in definition.needs:
        declared = needed.outputs if (needed := run.definition.job(name)) else {}
        instances = {
            row.matrix_key: {
                alias: OutputValue(value, alias in declared and declared[alias].masked)
                for alias, value in row.outputs.items()
            }
            for row in run.jobs
            if row.name == name and row.status == SUCCESS
        }
        key = next((row.matrix_key for row in run.jobs if row.name == name), "")
        dimensions = tuple(pair.partition("=")[0] for pair in key.split(",")) if key else ()
        found[name] = NeededJob(instances, dimensions)
    return found


def _checkouts(run: Run) -> tuple[Checkout, ...]:
    """The pipeline's git materials, in the order of the file."""
    made = []
    for material in run.definition.materials:
        if isinstance(material, model.GitMaterial):
            identity = material_id(run.pipeline_id, material.fingerprint)
            revision = run.revisions.get(str(identity), Revision(""))
            branch = revision.branch or material.branch
            made.append(Checkout(identity, material.url, revision.revision, branch, f"src/{str(identity)[:8]}"))
    return tuple(made)
