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


def role_of(text: str) -> Role | None:
    """The role that a stored word stands for; None for a word that stands for none, which satisfies nothing.

    `user` is what the reference's command line writes for a maintainer (contract-admin 17.2).
    """
    return {"viewer": Role.VIEWER, "maintainer": Role.MAINTAINER, "user": Role.MAINTAINER, "admin": Role.ADMIN}.get(
        text
    )


MINIMUM = MappingProxyType(
    {
        "GET /healthz": Role.PUBLIC,
        "GET /readyz": Role.PUBLIC,
        "GET /version": Role.PUBLIC,
        "GET /metrics": Role.PUBLIC,
        "GET /api/v1/schema/pipeline.json": Role.PUBLIC,
        "GET /api/v1/openapi.yaml": Role.PUBLIC,
        "GET /api/v1/openapi.json": Role.PUBLIC,
        "GET /api/docs": Role.PUBLIC,
        "GET /api/docs/style.css": Role.PUBLIC,
        # The token is the credential: one blob, one verb, for minutes.
        "GET /artifacts/<token>": Role.PUBLIC,
        "PUT /artifacts/<token>": Role.PUBLIC,
        "GET /api/v1/projects": Role.VIEWER,
        "GET /api/v1/projects/<slug>": Role.VIEWER,
        "GET /api/v1/projects/<slug>/vsm": Role.VIEWER,
        "POST /api/v1/projects/apply": Role.MAINTAINER,
        "POST /api/v1/projects/<slug>/sync": Role.MAINTAINER,
        "GET /api/v1/projects/<slug>/pr-head-config": Role.MAINTAINER,
        "PUT /api/v1/projects/<slug>/pr-head-config": Role.ADMIN,
        "POST /api/v1/projects/<slug>/run-all": Role.MAINTAINER,
        "DELETE /api/v1/projects/<slug>": Role.ADMIN,
        "GET /api/v1/runs": Role.VIEWER,
        "GET /api/v1/runs/<run_id>": Role.VIEWER,
        "GET /api/v1/runs/<run_id>/logs/stream": Role.VIEWER,
        "GET /api/v1/runs/<run_id>/jobs/<job_id>/log.txt": Role.VIEWER,
        "GET /api/v1/runs/<run_id>/artifacts": Role.VIEWER,
        "POST /api/v1/runs/<run_id>/artifacts/pin": Role.MAINTAINER,
        "POST /api/v1/runs/<run_id>/artifacts/unpin": Role.MAINTAINER,
        "POST /api/v1/runs/<run_id>/cancel": Role.MAINTAINER,
        "POST /api/v1/runs/<run_id>/rerun": Role.MAINTAINER,
        "POST /api/v1/job_runs/<job_id>/cancel": Role.MAINTAINER,
        "POST /api/v1/job_runs/<job_id>/rerun": Role.MAINTAINER,
        "POST /api/v1/job_runs/<job_id>/approve": Role.MAINTAINER,
        "POST /api/v1/job_runs/<job_id>/reject": Role.MAINTAINER,
        "GET /api/v1/runs/<run_id>/tests": Role.VIEWER,
        "GET /api/v1/runs/<run_id>/coverage": Role.VIEWER,
        "GET /api/v1/runs/<run_id>/security-findings": Role.VIEWER,
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
        "GET /api/v1/admin/audit": Role.ADMIN,
        "GET /api/v1/admin/health": Role.ADMIN,
        "GET /api/v1/admin/scm-credentials": Role.ADMIN,
        "POST /api/v1/admin/scm-credentials": Role.ADMIN,
        "DELETE /api/v1/admin/scm-credentials/<credential_id>": Role.ADMIN,
        "GET /api/v1/admin/runner-profiles": Role.ADMIN,
        "POST /api/v1/admin/runner-profiles": Role.ADMIN,
        "PUT /api/v1/admin/runner-profiles/<profile_id>": Role.ADMIN,
        "DELETE /api/v1/admin/runner-profiles/<profile_id>": Role.ADMIN,
        # Verifiers of identity tokens have no account here.
        "GET /.well-known/openid-configuration": Role.PUBLIC,
        "GET /.well-known/jwks.json": Role.PUBLIC,
        "GET /api/v1/admin/secret-backends": Role.ADMIN,
        "PUT /api/v1/admin/secret-backends/<source>": Role.ADMIN,
        "DELETE /api/v1/admin/secret-backends/<source>": Role.ADMIN,
        "POST /api/v1/admin/secret-backends/<source>/test": Role.ADMIN,
        "GET /api/v1/admin/oidc/keys": Role.ADMIN,
        "POST /api/v1/admin/oidc/keys/rotate": Role.ADMIN,
        # The signature or token is the credential.
        "POST /api/webhooks/github": Role.PUBLIC,
        "POST /api/webhooks/gitlab": Role.PUBLIC,
        "POST /api/webhooks/bitbucket": Role.PUBLIC,
        "POST /api/webhooks/github/app": Role.PUBLIC,
        "GET /api/v1/projects/<slug>/check-reporting": Role.MAINTAINER,
        "PUT /api/v1/projects/<slug>/check-reporting": Role.MAINTAINER,
        "POST /api/v1/projects/<slug>/scm-sources/rotate-webhook-secret": Role.MAINTAINER,
        "GET /api/v1/admin/integrations": Role.ADMIN,
        "GET /api/v1/admin/integrations/github": Role.ADMIN,
        "GET /api/v1/admin/integrations/vcs": Role.ADMIN,
        "POST /api/v1/admin/integrations/vcs": Role.ADMIN,
        "DELETE /api/v1/admin/integrations/vcs/<integration_id>": Role.ADMIN,
        "POST /api/v1/admin/integrations/vcs/reload": Role.ADMIN,
        "GET /api/v1/admin/webhooks": Role.ADMIN,
        "GET /api/v1/admin/webhooks/<delivery_id>": Role.ADMIN,
        "POST /api/v1/admin/webhooks/<delivery_id>/redeliver": Role.ADMIN,
        "GET /api/v1/plugins": Role.VIEWER,
        "GET /api/v1/projects/<slug>/environments": Role.VIEWER,
        "GET /api/v1/projects/<slug>/environments/<name>/deployments": Role.VIEWER,
        "POST /api/v1/projects/<slug>/environments/<name>/rollback": Role.MAINTAINER,
        "PUT /api/v1/projects/<slug>/poll-interval": Role.MAINTAINER,
        "GET /api/v1/projects/<slug>/notifications": Role.VIEWER,
        "PUT /api/v1/projects/<slug>/notifications": Role.MAINTAINER,
        "GET /api/v1/projects/<slug>/labels": Role.VIEWER,
        "PUT /api/v1/projects/<slug>/labels": Role.MAINTAINER,
        "GET /api/v1/projects/<slug>/caches": Role.VIEWER,
        "DELETE /api/v1/projects/<slug>/caches/<cache_id>": Role.ADMIN,
        "GET /api/v1/projects/<slug>/crons": Role.MAINTAINER,
        "POST /api/v1/projects/<slug>/crons": Role.MAINTAINER,
        "PUT /api/v1/projects/<slug>/crons/<cron_id>": Role.MAINTAINER,
        "DELETE /api/v1/projects/<slug>/crons/<cron_id>": Role.MAINTAINER,
        "GET /api/v1/projects/<slug>/log-archive": Role.MAINTAINER,
        "PUT /api/v1/projects/<slug>/log-archive": Role.MAINTAINER,
        "GET /api/v1/admin/retention": Role.ADMIN,
        "GET /api/v1/admin/retention/plan": Role.ADMIN,
        "POST /api/v1/admin/retention/run": Role.ADMIN,
        "PUT /api/v1/projects/<slug>/environments/<name>/freeze": Role.MAINTAINER,
        "DELETE /api/v1/projects/<slug>/environments/<name>/freeze": Role.MAINTAINER,
        "GET /api/v1/dashboard/metrics": Role.VIEWER,
        "GET /api/v1/agents": Role.VIEWER,
        "GET /api/v1/agents/<agent_id>": Role.VIEWER,
        "POST /api/v1/agents": Role.ADMIN,
        "POST /api/v1/agents/<agent_id>/token": Role.ADMIN,
        "POST /api/v1/agents/<agent_id>/disable": Role.ADMIN,
        "POST /api/v1/agents/<agent_id>/enable": Role.ADMIN,
        # Who signs in, and what they have. `me` and `account` ask for somebody, whoever it is.
        "GET /auth/providers": Role.PUBLIC,
        "GET /auth/login/local": Role.PUBLIC,
        "GET /auth/login/<provider>": Role.PUBLIC,
        # The state of the sign-in, and the cookie of the browser that began it, are the credential.
        "GET /auth/callback/<provider>": Role.PUBLIC,
        "POST /auth/login/local": Role.PUBLIC,
        "POST /auth/logout": Role.PUBLIC,
        "POST /auth/setup": Role.PUBLIC,
        "GET /api/v1/me": Role.VIEWER,
        "POST /api/v1/me/password": Role.VIEWER,
        "GET /api/v1/account/preferences": Role.VIEWER,
        "PUT /api/v1/account/preferences": Role.VIEWER,
        "GET /api/v1/account/api-tokens": Role.VIEWER,
        "POST /api/v1/account/api-tokens": Role.VIEWER,
        "DELETE /api/v1/account/api-tokens/<token_id>": Role.VIEWER,
        # Accounts of others.
        "GET /api/v1/admin/users": Role.ADMIN,
        "POST /api/v1/admin/users": Role.ADMIN,
        "PUT /api/v1/admin/users/<user_id>/role": Role.ADMIN,
        "POST /api/v1/admin/users/<user_id>/disable": Role.ADMIN,
        "DELETE /api/v1/admin/users/<user_id>": Role.ADMIN,
        "GET /api/v1/admin/service-accounts": Role.ADMIN,
        "POST /api/v1/admin/service-accounts": Role.ADMIN,
        "PUT /api/v1/admin/service-accounts/<account_id>": Role.ADMIN,
        "DELETE /api/v1/admin/service-accounts/<account_id>": Role.ADMIN,
        "POST /api/v1/admin/service-accounts/<account_id>/disable": Role.ADMIN,
        "GET /api/v1/admin/service-accounts/<account_id>/tokens": Role.ADMIN,
        "POST /api/v1/admin/service-accounts/<account_id>/tokens": Role.ADMIN,
        "DELETE /api/v1/admin/service-accounts/<account_id>/tokens/<token_id>": Role.ADMIN,
        "GET /api/v1/admin/auth/providers": Role.ADMIN,
        "POST /api/v1/admin/auth/providers": Role.ADMIN,
        "DELETE /api/v1/admin/auth/providers/<provider_id>": Role.ADMIN,
        "POST /api/v1/admin/auth/providers/reload": Role.ADMIN,
        "GET /api/v1/admin/groups": Role.ADMIN,
        "POST /api/v1/admin/groups": Role.ADMIN,
        "PUT /api/v1/admin/groups/<group_id>": Role.ADMIN,
        "DELETE /api/v1/admin/groups/<group_id>": Role.ADMIN,
        "GET /api/v1/admin/groups/<group_id>/members": Role.ADMIN,
        "POST /api/v1/admin/groups/<group_id>/members": Role.ADMIN,
        "DELETE /api/v1/admin/groups/<group_id>/members/<user_id>": Role.ADMIN,
    }
)
"""`METHOD path` -> the lowest role that is let in when authentication is on."""


def minimum(method: str, path: str) -> Role:
    """The lowest role for a route. Raises LookupError for a route that is not in the table."""
    try:
        return MINIMUM[f"{method} {path}"]
    except KeyError:
        raise LookupError(f"{method} {path} has no entry in gocdnext.auth.roles: say who may call it") from None
