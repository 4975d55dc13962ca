"""The one table of what each route asks of its caller (contract-runs 0.1). Deny by default.

A route that is not listed here cannot be registered. Nothing here looks at a request.
"""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType


class Role(IntEnum):
    """The ladder: a higher role may do everything that a lower one may. PUBLIC asks for nobody."""

    PUBLIC = 0
    VIEWER = 1
    MAINTAINER = 2
    ADMIN = 3


MINIMUM = MappingProxyType(
    {
        "GET /healthz": Role.PUBLIC,
        "GET /readyz": Role.PUBLIC,
        "GET /version": Role.PUBLIC,
        "GET /metrics": Role.PUBLIC,
        "GET /api/v1/schema/pipeline.json": Role.PUBLIC,
        # The token is the credential: one blob, one verb, for minutes.
        "GET /artifacts/<token>": Role.PUBLIC,
        "PUT /artifacts/<token>": Role.PUBLIC,
        "GET /api/v1/projects": Role.VIEWER,
        "GET /api/v1/projects/<slug>": Role.VIEWER,
        "POST /api/v1/projects/apply": Role.MAINTAINER,
        "GET /api/v1/runs": Role.VIEWER,
        "GET /api/v1/runs/<run_id>": Role.VIEWER,
        "GET /api/v1/runs/<run_id>/logs/stream": Role.VIEWER,
        "GET /api/v1/runs/<run_id>/jobs/<job_id>/log.txt": Role.VIEWER,
        "GET /api/v1/runs/<run_id>/artifacts": Role.VIEWER,
        "POST /api/v1/runs/<run_id>/cancel": Role.MAINTAINER,
        "POST /api/v1/runs/<run_id>/rerun": Role.MAINTAINER,
        "POST /api/v1/job_runs/<job_id>/cancel": Role.MAINTAINER,
        "POST /api/v1/job_runs/<job_id>/rerun": Role.MAINTAINER,
        "POST /api/v1/job_runs/<job_id>/approve": Role.MAINTAINER,
        "POST /api/v1/job_runs/<job_id>/reject": Role.MAINTAINER,
        "GET /api/v1/runs/<run_id>/tests": Role.VIEWER,
        "GET /api/v1/runs/<run_id>/coverage": Role.VIEWER,
        "GET /api/v1/runs/<run_id>/services": Role.VIEWER,
        "GET /api/v1/tests/history": Role.VIEWER,
        "GET /api/v1/pipelines/<pipeline_id>/coverage-trend": Role.VIEWER,
        "GET /api/v1/pipelines/<pipeline_id>/yaml": Role.VIEWER,
        "POST /api/v1/pipelines/<pipeline_id>/trigger": Role.MAINTAINER,
        "GET /api/v1/projects/<slug>/secrets": Role.VIEWER,
        "POST /api/v1/projects/<slug>/secrets": Role.MAINTAINER,
        "DELETE /api/v1/projects/<slug>/secrets/<name>": Role.MAINTAINER,
        "GET /api/v1/admin/secrets": Role.ADMIN,
        "POST /api/v1/admin/secrets": Role.ADMIN,
        "DELETE /api/v1/admin/secrets/<name>": Role.ADMIN,
        # The signature or token is the credential.
        "POST /api/webhooks/github": Role.PUBLIC,
        "POST /api/webhooks/gitlab": Role.PUBLIC,
        "POST /api/webhooks/bitbucket": Role.PUBLIC,
        "GET /api/v1/admin/webhooks": Role.ADMIN,
        "GET /api/v1/admin/webhooks/<delivery_id>": Role.ADMIN,
        "POST /api/v1/admin/webhooks/<delivery_id>/redeliver": Role.ADMIN,
        "GET /api/v1/plugins": Role.VIEWER,
        "PUT /api/v1/projects/<slug>/environments/<name>/freeze": Role.MAINTAINER,
        "DELETE /api/v1/projects/<slug>/environments/<name>/freeze": Role.MAINTAINER,
        "GET /api/v1/agents": Role.VIEWER,
        "GET /api/v1/agents/<agent_id>": Role.VIEWER,
        "POST /api/v1/agents": Role.ADMIN,
        "POST /api/v1/agents/<agent_id>/token": Role.ADMIN,
        "POST /api/v1/agents/<agent_id>/disable": Role.ADMIN,
        "POST /api/v1/agents/<agent_id>/enable": Role.ADMIN,
    }
)
"""`METHOD path` -> the lowest role that is let in when authentication is on."""


def minimum(method: str, path: str) -> Role:
    """The lowest role for a route. Raises LookupError for a route that is not in the table."""
    try:
        return MINIMUM[f"{method} {path}"]
    except KeyError:
        raise LookupError(f"{method} {path} has no entry in gocdnext.auth.roles: say who may call it") from None
