"""The calls of the API, one method for each, by resource, and the message that each is answered with."""

# What an answer is cannot be checked here: the server's document says it, and a test holds each method against it.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import httpx
import orjson

from gocdnext.client.connection import CONNECT_TIMEOUT, TIMEOUT, Connection, Query
from gocdnext.client.errors import CannotReachError

if TYPE_CHECKING:
    from gocdnext.client.messages import (
        ActiveApps,
        AgentDetail,
        Agents,
        AgentToken,
        Applied,
        Artifact,
        AuditEvents,
        CancelledJob,
        CheckReporting,
        CoverageTrend,
        Cron,
        Crons,
        DashboardMetrics,
        DeletedProject,
        Deliveries,
        Delivery,
        DeliveryDetail,
        Deployments,
        Environments,
        GateAnswer,
        Health,
        Integrations,
        LogArchive,
        PinsChanged,
        PipelineYaml,
        Plugins,
        PollInterval,
        PrHeadConfig,
        ProjectDetail,
        Projects,
        Redeployed,
        Rerun,
        RerunJob,
        Retention,
        RetentionPlan,
        Rotated,
        RotatedSecret,
        RunAll,
        RunCoverage,
        RunDetail,
        Runs,
        RunTests,
        SavedIntegration,
        SecretBackend,
        SecretBackends,
        SecretBackendTest,
        Secrets,
        SecretSet,
        SigningKeys,
        Synced,
        Triggered,
        ValueStream,
        VcsIntegrations,
        Version,
    )

SLOW = 600.0
"""Seconds for what may take the server minutes."""
PIECE = 1024 * 1024
"""Bytes of a download at a time."""


class Client(Connection):
    """What the command line can ask a server. Every method raises `ApiError` or `CannotReachError`."""

    # Projects and pipelines

    def projects(self, limit: int | None = None, offset: int = 0) -> Projects:
        """GET /api/v1/projects (contract-runs 2.1)."""
        page: Query = [("offset", offset)] if limit is None else [("limit", limit), ("offset", offset)]
        return self._get("/api/v1/projects", page if limit or offset else None)

    def project(self, slug: str) -> ProjectDetail:
        """GET /api/v1/projects/{slug} (2.2), without recent runs beyond the one that must be asked for."""
        return self._get(f"/api/v1/projects/{quote(slug, safe='')}", [("runs", 1)])

    def vsm(self, slug: str) -> ValueStream:
        """GET /api/v1/projects/{slug}/vsm (2.3)."""
        return self._get(f"/api/v1/projects/{quote(slug, safe='')}/vsm")

    def delete_project(self, slug: str) -> DeletedProject:
        """DELETE /api/v1/projects/{slug} (2.6). Millions of log lines may go with it."""
        path = f"/api/v1/projects/{quote(slug, safe='')}"
        return self._json(self._send(self._http.build_request("DELETE", path, timeout=SLOW)))

    def run_all(self, slug: str) -> RunAll:
        """POST /api/v1/projects/{slug}/run-all (2.7). Each repository is asked, one after the other."""
        path = f"/api/v1/projects/{quote(slug, safe='')}/run-all"
        return self._json(self._send(self._http.build_request("POST", path, timeout=SLOW)))

    def apply(self, request: Mapping[str, object]) -> Applied:
        """POST /api/v1/projects/apply (2.4), JSON form."""
        return self._post("/api/v1/projects/apply", request)

    def sync(self, slug: str) -> Synced:
        """POST /api/v1/projects/{slug}/sync (2.5). Repositories are asked meanwhile."""
        path = f"/api/v1/projects/{quote(slug, safe='')}/sync"
        return self._json(self._send(self._http.build_request("POST", path, timeout=SLOW)))

    def pr_head_config(self, slug: str) -> PrHeadConfig:
        """GET /api/v1/projects/{slug}/pr-head-config (contract-admin 6.8)."""
        return self._get(f"/api/v1/projects/{quote(slug, safe='')}/pr-head-config")

    def set_pr_head_config(self, slug: str, enabled: bool) -> PrHeadConfig:
        """PUT /api/v1/projects/{slug}/pr-head-config (contract-admin 6.8)."""
        return self._ask("PUT", f"/api/v1/projects/{quote(slug, safe='')}/pr-head-config", {"enabled": enabled})

    def pipeline_yaml(self, pipeline_id: str) -> PipelineYaml:
        """GET /api/v1/pipelines/{id}/yaml (5.1)."""
        return self._get(f"/api/v1/pipelines/{pipeline_id}/yaml")

    def trigger(self, pipeline_id: str) -> Triggered:
        """POST /api/v1/pipelines/{id}/trigger (5.2). Never repeated: each call makes a run."""
        return self._post(f"/api/v1/pipelines/{pipeline_id}/trigger", None)

    def set_poll_interval(self, slug: str, interval: str) -> PollInterval:
        """PUT /api/v1/projects/{slug}/poll-interval (contract-admin 6.2); empty turns polling off."""
        path = f"/api/v1/projects/{quote(slug, safe='')}/poll-interval"
        headers = {"Content-Type": "application/json"}
        body = orjson.dumps({"interval": interval})
        return self._json(self._send(self._http.build_request("PUT", path, content=body, headers=headers)))

    def check_reporting(self, slug: str) -> CheckReporting:
        """GET /api/v1/projects/{slug}/check-reporting (contract-admin 6.7)."""
        return self._get(f"/api/v1/projects/{quote(slug, safe='')}/check-reporting")

    def set_check_reporting(self, slug: str, mode: str) -> CheckReporting:
        """PUT of the same."""
        return self._ask("PUT", f"/api/v1/projects/{quote(slug, safe='')}/check-reporting", {"mode": mode})

    def rotate_webhook_secret(self, slug: str) -> RotatedSecret:
        """POST /api/v1/projects/{slug}/scm-sources/rotate-webhook-secret (6.9). Never repeated: each call makes a secret."""
        path = f"/api/v1/projects/{quote(slug, safe='')}/scm-sources/rotate-webhook-secret"
        return self._json(self._send(self._http.build_request("POST", path, timeout=SLOW)))

    def integrations(self) -> Integrations:
        """GET /api/v1/admin/integrations (7.8)."""
        return self._get("/api/v1/admin/integrations")

    def apps(self) -> VcsIntegrations:
        """GET /api/v1/admin/integrations/vcs: the GitHub Apps (7.8)."""
        return self._get("/api/v1/admin/integrations/vcs")

    def set_app(self, app: Mapping[str, object]) -> SavedIntegration:
        """POST of the same: keeps an App under its name."""
        return self._post("/api/v1/admin/integrations/vcs", app)

    def delete_app(self, app_id: str) -> None:
        """DELETE of one."""
        self._ask("DELETE", f"/api/v1/admin/integrations/vcs/{quote(app_id, safe='')}")

    def reload_apps(self) -> ActiveApps:
        """POST of .../reload: reads them anew."""
        return self._post("/api/v1/admin/integrations/vcs/reload", None)

    def crons(self, slug: str) -> Crons:
        """GET /api/v1/projects/{slug}/crons (contract-admin 6.5)."""
        return self._get(_crons(slug))

    def add_cron(self, slug: str, cron: Mapping[str, object]) -> Cron:
        """POST /api/v1/projects/{slug}/crons."""
        return self._post(_crons(slug), cron)

    def change_cron(self, slug: str, cron_id: str, cron: Mapping[str, object]) -> None:
        """PUT /api/v1/projects/{slug}/crons/{id}."""
        self._ask("PUT", f"{_crons(slug)}/{cron_id}", cron)

    def remove_cron(self, slug: str, cron_id: str) -> None:
        """DELETE /api/v1/projects/{slug}/crons/{id}."""
        self._ask("DELETE", f"{_crons(slug)}/{cron_id}")

    def log_archive(self, slug: str) -> LogArchive:
        """GET /api/v1/projects/{slug}/log-archive (contract-admin 6.1)."""
        return self._get(f"/api/v1/projects/{quote(slug, safe='')}/log-archive")

    def set_log_archive(self, slug: str, enabled: bool | None) -> None:
        """PUT /api/v1/projects/{slug}/log-archive; None: as the server does."""
        self._ask("PUT", f"/api/v1/projects/{quote(slug, safe='')}/log-archive", {"enabled": enabled})

    def retention(self) -> Retention:
        """GET /api/v1/admin/retention (contract-admin 7.4)."""
        return self._get("/api/v1/admin/retention")

    def retention_plan(self, **limits: int) -> RetentionPlan:
        """GET /api/v1/admin/retention/plan: what the next passes would remove, under the server's limits or others."""
        return self._get("/api/v1/admin/retention/plan", [*limits.items()])

    def sweep(self) -> Retention:
        """POST /api/v1/admin/retention/run: one pass of every sweeper, now."""
        return self._post("/api/v1/admin/retention/run", None)

    def dashboard(self) -> DashboardMetrics:
        """GET /api/v1/dashboard/metrics (8.1)."""
        return self._get("/api/v1/dashboard/metrics")

    # Environments

    def environments(self, slug: str) -> Environments:
        """The environments of a project, and what each has now."""
        return self._get(_environment(slug))

    def deployments(self, slug: str, name: str, limit: int) -> Deployments:
        """Deployments to an environment, newest first."""
        return self._get(f"{_environment(slug, name)}/deployments", [("limit", limit)])

    def freeze(self, slug: str, name: str, reason: str) -> None:
        """Freezes an environment."""
        self._ask("PUT", f"{_environment(slug, name)}/freeze", {"reason": reason})

    def unfreeze(self, slug: str, name: str) -> None:
        """Lets an environment go."""
        self._ask("DELETE", f"{_environment(slug, name)}/freeze")

    def rollback(self, slug: str, name: str, deployment_id: str | None) -> Redeployed:
        """Deploys an earlier deployment again; without one the newest that succeeded."""
        return self._post(f"{_environment(slug, name)}/rollback", {"deployment_id": deployment_id})

    # Secrets; `slug` None means the global ones

    def secrets(self, slug: str | None, offset: int = 0) -> Secrets:
        """One page of names (contract-admin 5.3)."""
        return self._get(_secrets(slug), [("limit", 200), ("offset", offset)])

    def set_secret(self, slug: str | None, name: str, value: str) -> SecretSet:
        """Sets a value (5.4). The same again changes nothing, so it may be repeated."""
        return self._post(_secrets(slug), {"name": name, "value": value})

    def refer_secret(self, slug: str | None, name: str, source: str, path: str, key: str) -> SecretSet:
        """Sets a secret whose value another store has (5.4)."""
        return self._post(_secrets(slug), {"name": name, "source": source, "ref": {"path": path, "key": key}})

    def secret_backends(self) -> SecretBackends:
        """GET /api/v1/admin/secret-backends (5.8)."""
        return self._get("/api/v1/admin/secret-backends")

    def set_secret_backend(self, source: str, description: Mapping[str, object]) -> SecretBackend:
        """PUT /api/v1/admin/secret-backends/{source}."""
        return self._ask("PUT", _backend(source), description)

    def test_secret_backend(self, source: str, description: Mapping[str, object]) -> SecretBackendTest:
        """POST /api/v1/admin/secret-backends/{source}/test: nothing is kept."""
        return self._post(f"{_backend(source)}/test", description)

    def delete_secret_backend(self, source: str) -> SecretBackend:
        """DELETE /api/v1/admin/secret-backends/{source}: what applies then."""
        return self._ask("DELETE", _backend(source))

    def delete_secret(self, slug: str | None, name: str) -> None:
        """Removes a secret (5.5)."""
        self._ask("DELETE", f"{_secrets(slug)}/{quote(name, safe='')}")

    # Identity tokens of jobs (contract-admin 7.12)

    def signing_keys(self) -> SigningKeys:
        """GET /api/v1/admin/oidc/keys: every key, newest first."""
        return self._get("/api/v1/admin/oidc/keys")

    def rotate_signing_key(self, mode: str) -> Rotated:
        """POST /api/v1/admin/oidc/keys/rotate. Never repeated: each call makes a key."""
        return self._post("/api/v1/admin/oidc/keys/rotate", {"mode": mode})

    # The audit trail

    def audit(self, limit: int, offset: int = 0, **filters: str | None) -> AuditEvents:
        """One page of events, newest first (contract-admin 7.3). Filters as there; None leaves one out."""
        query: Query = [("limit", limit), ("offset", offset)]
        query.extend((name, value) for name, value in filters.items() if value)
        return self._get("/api/v1/admin/audit", query)

    # Deliveries of webhooks (contract-admin 7.7)

    def deliveries(self, limit: int, offset: int = 0, **filters: str | None) -> Deliveries:
        """One page, newest first. Filters: provider, status; None leaves one out."""
        query: Query = [("limit", limit), ("offset", offset)]
        query.extend((name, value) for name, value in filters.items() if value)
        return self._get("/api/v1/admin/webhooks", query)

    def delivery(self, delivery_id: int) -> DeliveryDetail:
        """One delivery with headers, payload and the rules that decided."""
        return self._get(f"/api/v1/admin/webhooks/{delivery_id}")

    def redeliver(self, delivery_id: int) -> Delivery:
        """Processes a delivery again."""
        return self._post(f"/api/v1/admin/webhooks/{delivery_id}/redeliver", None)

    # Runs

    def runs(self, limit: int = 20, offset: int = 0, **filters: str | None) -> Runs:
        """GET /api/v1/runs (3.1). Filters: project, pipeline, status, cause; None leaves one out."""
        query: Query = [("limit", limit), ("offset", offset)]
        query.extend((name, value) for name, value in filters.items() if value)
        return self._get("/api/v1/runs", query)

    def run(self, run_id: str, *, logs: int = 0, since: Mapping[str, int] | None = None) -> RunDetail:
        """GET /api/v1/runs/{id} (3.2). `logs`: lines for each job; `since`: job id -> seq already seen."""
        query: Query = [("logs", logs)]
        query.extend(("since", f"{job}:{seq}") for job, seq in (since or {}).items())
        return self._get(f"/api/v1/runs/{run_id}", query)

    def cancel_run(self, run_id: str) -> None:
        """POST /api/v1/runs/{id}/cancel (3.9)."""
        self._post(f"/api/v1/runs/{run_id}/cancel", None)

    def rerun_run(self, run_id: str) -> Rerun:
        """POST /api/v1/runs/{id}/rerun (3.10). Never repeated: each call makes a run."""
        return self._post(f"/api/v1/runs/{run_id}/rerun", None)

    # Jobs

    def cancel_job(self, job_id: str) -> CancelledJob:
        """POST /api/v1/job_runs/{id}/cancel (4.1)."""
        return self._post(f"/api/v1/job_runs/{job_id}/cancel", None)

    def rerun_job(self, job_id: str) -> RerunJob:
        """POST /api/v1/job_runs/{id}/rerun (4.2)."""
        return self._post(f"/api/v1/job_runs/{job_id}/rerun", None)

    def vote(self, job_id: str, decision: str, *, comment: str = "", user: str = "") -> GateAnswer:
        """POST /api/v1/job_runs/{id}/approve or /reject (4.3). `user` counts only without authentication."""
        said = {key: value for key, value in (("comment", comment), ("user", user)) if value}
        return self._post(f"/api/v1/job_runs/{job_id}/{decision}", said or None)

    # What runs leave behind

    def artifacts(self, run_id: str) -> list[Artifact]:
        """GET /api/v1/runs/{id}/artifacts (3.6)."""
        request = self._http.build_request("GET", f"/api/v1/runs/{run_id}/artifacts")
        return self._document(self._again(request), list)

    def pin(self, run_id: str, paths: Sequence[str], *, pinned: bool) -> PinsChanged:
        """POST /api/v1/runs/{id}/artifacts/pin or /unpin; no paths are all of them."""
        word = "pin" if pinned else "unpin"
        return self._post(f"/api/v1/runs/{run_id}/artifacts/{word}", {"paths": list(paths)} if paths else None)

    def download(self, url: str) -> Iterator[bytes]:
        """The bytes behind a signed link (9), which may lead to another server: the token is not sent along."""
        parts = urlsplit(url)
        timeout = httpx.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT)
        try:
            with httpx.stream("GET", url, timeout=timeout, headers={"Accept-Encoding": "identity"}) as response:
                if response.status_code != 200:
                    response.read()
                    raise self._refusal(response)
                yield from response.iter_bytes(PIECE)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            # Without the path: it is a credential.
            where = f"{parts.scheme}://{parts.netloc}"
            raise CannotReachError(f"cannot reach {where}: {str(error) or type(error).__name__}") from error

    def agents(self) -> Agents:
        """GET /api/v1/agents (8.2)."""
        return self._get("/api/v1/agents")

    def plugins(self) -> Plugins:
        """GET /api/v1/plugins (7.1)."""
        return self._get("/api/v1/plugins")

    def agent(self, agent_id: str, jobs: int = 20) -> AgentDetail:
        """GET /api/v1/agents/{id} (8.2) with the agent's newest jobs."""
        return self._get(f"/api/v1/agents/{agent_id}", [("jobs", jobs)])

    def set_agent(self, agent_id: str, *, disabled: bool) -> None:
        """POST /api/v1/agents/{id}/disable or /enable."""
        self._post(f"/api/v1/agents/{agent_id}/{'disable' if disabled else 'enable'}", None)

    def create_agent(self, name: str) -> AgentToken:
        """POST /api/v1/agents: a new agent and its token."""
        return self._post("/api/v1/agents", {"name": name})

    def new_agent_token(self, agent_id: str) -> AgentToken:
        """POST /api/v1/agents/{id}/token: another token."""
        return self._post(f"/api/v1/agents/{agent_id}/token", None)

    # Reports

    def tests(self, run_id: str) -> RunTests:
        """GET /api/v1/runs/{id}/tests (6.1)."""
        return self._get(f"/api/v1/runs/{run_id}/tests")

    def coverage(self, run_id: str) -> RunCoverage:
        """GET /api/v1/runs/{id}/coverage (6.3)."""
        return self._get(f"/api/v1/runs/{run_id}/coverage")

    def coverage_trend(self, pipeline_id: str, limit: int) -> CoverageTrend:
        """GET /api/v1/pipelines/{id}/coverage-trend (6.3)."""
        return self._get(f"/api/v1/pipelines/{pipeline_id}/coverage-trend", [("limit", limit)])

    # Server

    def version(self) -> Version:
        """GET /version (10)."""
        return self._get("/version")

    def ready(self) -> Health:
        """GET /readyz (10); 503 is an `ApiError`."""
        return self._get("/readyz")


def _secrets(slug: str | None) -> str:
    return "/api/v1/admin/secrets" if slug is None else f"/api/v1/projects/{quote(slug, safe='')}/secrets"


def _backend(source: str) -> str:
    return f"/api/v1/admin/secret-backends/{quote(source, safe='')}"


def _environment(slug: str, name: str | None = None) -> str:
    path = f"/api/v1/projects/{quote(slug, safe='')}/environments"
    return path if name is None else f"{path}/{quote(name, safe='')}"


def _crons(slug: str) -> str:
    return f"/api/v1/projects/{quote(slug, safe='')}/crons"
