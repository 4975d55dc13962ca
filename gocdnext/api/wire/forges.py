"""Hooks, reporting and Apps of providers as clients read them (contract-admin 6.7, 6.9, 7.8). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Id, Time, Wire


class CheckReportingBody(Wire):
    mode: str
    """both, check_run or commit_status."""


class GivenUpReport(Wire):
    """A run whose standing could not be told to the provider."""

    run_id: Id
    pipeline_name: str
    counter: int
    status: str
    attempts: int
    error: str
    at: Time


class CheckReporting(Wire):
    mode: str
    default_mode: str
    given_up: list[GivenUpReport] = []
    """What could not be told lately, newest first."""


class WebhookResult(Wire):
    """What became of registering a hook at the provider."""

    scm_source_url: str
    status: str
    """registered, updated, already_exists, skipped_no_install, skipped_unsupported_provider or failed."""
    provider: str = ""
    hook_id: str = ""
    error: str = ""


class RotatedSecret(Wire):
    scm_source_id: Id
    generated_webhook_secret: str
    """Told this once."""
    webhook: WebhookResult | None = None


class GithubIntegration(Wire):
    app_configured: bool
    checks_reporter_on: bool
    auto_register_on: bool
    webhook_endpoint: str


class TokenIntegration(Wire):
    auto_register_on: bool
    webhook_endpoint: str
    required_scope: str


class Integrations(Wire):
    public_base: str
    public_base_set: bool
    github: GithubIntegration
    gitlab: TokenIntegration
    bitbucket: TokenIntegration


class LegacyGithubIntegration(Wire):
    github_app_configured: bool
    public_base_set: bool
    checks_reporter_on: bool
    auto_register_on: bool


class VcsIntegration(Wire):
    """A GitHub App as it is kept."""

    id: Id
    kind: str
    name: str
    display_name: str
    enabled: bool
    has_private_key: bool
    has_webhook_secret: bool
    created_at: Time
    updated_at: Time
    app_id: int | None = None
    api_base: str = ""


class ActiveApp(Wire):
    """An App that is in use; `source` is env or db."""

    id: Id
    name: str
    kind: str
    enabled: bool
    source: str
    display_name: str = ""
    app_id: int | None = None
    api_base: str = ""
    updated_at: Time | None = None


class VcsIntegrations(Wire):
    integrations: list[VcsIntegration]
    active: list[ActiveApp]


class ActiveApps(Wire):
    active: list[ActiveApp]


class VcsIntegrationBody(Wire):
    name: str = ""
    kind: str = ""
    display_name: str = ""
    app_id: int = 0
    private_key: str = ""
    """PEM; empty: the one that is kept."""
    webhook_secret: str = ""
    api_base: str = ""
    enabled: bool = False


class SavedIntegration(Wire):
    integration: VcsIntegration
    reload_warning: str = ""
    """Why it is not in use although it is kept."""
