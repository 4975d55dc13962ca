"""Between our values and the messages of the wire (protocol-agent 1.3, 2.10). Pure."""

from __future__ import annotations

from typing import Final

from gocdnext.pipeline.model import Job, Service, Toleration
from gocdnext.pipeline.profiles import Affinity
from gocdnext.proto import agent_pb2 as pb
from gocdnext.runs import state
from gocdnext.runs.assignment import Assignment

WORKSPACE: Final = "/workspace"
"""The constant of the protocol; no agent reads it."""
DISRUPTED: Final = "disrupted"

STATUS: Final[dict[int, str]] = {
    pb.RUN_STATUS_SUCCESS: state.SUCCESS,
    pb.RUN_STATUS_FAILED: state.FAILED,
    # The reference drops such a result and the job runs for ever; the completion makes it `canceled` by its stamp.
    pb.RUN_STATUS_CANCELED: state.FAILED,
    pb.RUN_STATUS_DISRUPTED: DISRUPTED,
}
"""What a result's status means; any other is not a result (2.6)."""


def job_assignment(assignment: Assignment) -> pb.JobAssignment:
    """The frame of one attempt. Fields of a part that the job does not have stay empty."""
    job = assignment.definition
    artifacts = job.artifacts
    return pb.JobAssignment(
        run_id=str(assignment.run_id),
        job_id=str(assignment.job_id),
        name=job.name,
        image=job.image,
        tasks=_tasks(assignment),
        env=dict(assignment.env),
        checkouts=[
            pb.MaterialCheckout(
                material_id=str(checkout.material_id),
                url=checkout.url,
                revision=checkout.revision,
                branch=checkout.branch,
                target_dir=checkout.target_dir,
            )
            for checkout in assignment.checkouts
        ],
        workspace=WORKSPACE,
        timeout_seconds=job.timeout_seconds,
        log_masks=list(assignment.masks),
        artifact_paths=artifacts.required if artifacts else (),
        optional_artifact_paths=artifacts.optional if artifacts else (),
        artifacts_when=artifacts.when if artifacts else "",
        docker=job.docker,
        services=[_service(service) for service in assignment.services],
        artifact_downloads=[
            pb.ArtifactDownload(
                path=download.path,
                storage_key=download.storage_key,
                get_url=download.url,
                dest=download.dest,
                content_sha256=download.sha256,
                from_job=download.from_job,
            )
            for download in assignment.downloads
        ],
        caches=[pb.CacheEntry(key=cache.key, paths=cache.paths) for cache in job.cache],
        test_reports=job.test_reports,
        resources=_resources(job),
        profile=job.profile,
        node_selector=assignment.placement.node_selector,
        tolerations=[_toleration(toleration) for toleration in assignment.placement.tolerations],
        preferred_node_affinity=[_affinity(term) for term in assignment.placement.preferred_node_affinity],
        outputs={alias: output.env for alias, output in job.outputs.items()},
        coverage_report=_coverage(job),
        service_generation=assignment.service_generation,
        attempt=assignment.attempt,
    )


def _tasks(assignment: Assignment) -> list[pb.TaskSpec]:
    job = assignment.definition
    if job.plugin is not None:
        return [pb.TaskSpec(plugin=pb.PluginSpec(image=job.plugin.image, settings=dict(assignment.settings)))]
    return [pb.TaskSpec(script=job.script)] if job.script else []


def _service(service: Service) -> pb.ServiceSpec:
    return pb.ServiceSpec(
        name=service.name,
        image=service.image,
        env=service.env,
        command=service.command,
        node_selector=service.node_selector,
        tolerations=[_toleration(toleration) for toleration in service.tolerations],
    )


def _toleration(toleration: Toleration) -> pb.Toleration:
    return pb.Toleration(
        key=toleration.key,
        operator=toleration.operator,
        value=toleration.value,
        effect=toleration.effect,
        toleration_seconds=toleration.toleration_seconds,
    )


def _affinity(term: Affinity) -> pb.PreferredNodeAffinityTerm:
    return pb.PreferredNodeAffinityTerm(
        weight=term.weight,
        match_expressions=[
            pb.NodeAffinityMatchExpression(key=one.key, operator=one.operator, values=one.values)
            for one in term.match_expressions
        ],
    )


def _resources(job: Job) -> pb.ResourceRequirements:
    requests, limits = job.resources.requests, job.resources.limits
    return pb.ResourceRequirements(
        cpu_request=requests.cpu,
        cpu_limit=limits.cpu,
        memory_request=requests.memory,
        memory_limit=limits.memory,
    )


def _coverage(job: Job) -> pb.CoverageReportSpec | None:
    report = job.coverage_report
    if report is None:
        return None
    return pb.CoverageReportSpec(path=report.path, format=report.format, fail_under=report.fail_under)
