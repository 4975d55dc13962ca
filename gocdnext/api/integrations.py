"""`/api/v1/admin/integrations`: what works with which provider, and GitHub Apps (contract-admin 7.8)."""

from __future__ import annotations

from uuid import UUID

import asyncpg
from quart import Blueprint, Response

from gocdnext.api import params, people
from gocdnext.api.context import services
from gocdnext.api.respond import answer, nothing, utc, utc_or_none
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.api.wire import Error
from gocdnext.api.wire import forges as wire
from gocdnext.errors import InvalidError
from gocdnext.forges.apps import KIND, BadAppsError, NewApp
from gocdnext.forges.github_app import App

blueprint = Blueprint("integrations", __name__)
PATH = "/api/v1/admin/integrations"
VCS = f"{PATH}/vcs"
MAX_BODY = 128 * 1024
NIL = UUID(int=0)


@route(blueprint, "GET", PATH, described=Description(gives=wire.Integrations))
async def show_integrations() -> Response:
    """What the server does by itself at each provider, and where hooks point to."""
    here = services()
    base, targets = here.settings.public_base, here.forges.registration.targets
    app = bool(await here.forges.apps.active())
    online = not here.outbound.policy.offline

    def endpoint(provider: str) -> str:
        return targets.of(provider) if targets.known else ""

    message = wire.Integrations(
        public_base=base,
        public_base_set=bool(base),
        github=wire.GithubIntegration(
            app_configured=app,
            checks_reporter_on=app and online,
            auto_register_on=app and targets.known and online,
            webhook_endpoint=endpoint("github"),
        ),
        gitlab=wire.TokenIntegration(
            auto_register_on=targets.known and online, webhook_endpoint=endpoint("gitlab"), required_scope="api"
        ),
        bitbucket=wire.TokenIntegration(
            auto_register_on=targets.known and online, webhook_endpoint=endpoint("bitbucket"), required_scope="webhooks"
        ),
    )
    return answer(message)


@route(blueprint, "GET", f"{PATH}/github", described=Description(gives=wire.LegacyGithubIntegration))
async def show_github() -> Response:
    """The same for GitHub alone."""
    here = services()
    app, online = bool(await here.forges.apps.active()), not here.outbound.policy.offline
    message = wire.LegacyGithubIntegration(
        github_app_configured=app,
        public_base_set=bool(here.settings.public_base),
        checks_reporter_on=app and online,
        auto_register_on=app and here.forges.registration.targets.known and online,
    )
    return answer(message)


@route(blueprint, "GET", VCS, described=Description(gives=wire.VcsIntegrations))
async def list_apps() -> Response:
    """The GitHub Apps that are kept, and those in use."""
    apps = services().forges.apps
    rows = await apps.listed()
    message = wire.VcsIntegrations(
        integrations=[_kept(row) for row in rows], active=[_active(app) for app in await apps.active()]
    )
    return answer(message)


@route(
    blueprint,
    "POST",
    VCS,
    Audited("vcs_integration.set", "vcs_integration"),
    described=Description(
        takes=wire.VcsIntegrationBody, gives=wire.SavedIntegration, status=201, fails=frozenset({409})
    ),
)
async def save_app() -> Response:
    """Keeps a GitHub App under its name, in place of the former one; an empty key or secret stays what it is."""
    here = services()
    said = await people.body(wire.VcsIntegrationBody, MAX_BODY)
    note(name=said.name, app_id=said.app_id, enabled=said.enabled)
    new = NewApp(
        name=said.name,
        kind=said.kind,
        app_id=said.app_id,
        display_name=said.display_name,
        api_base=said.api_base,
        enabled=said.enabled,
        private_key=said.private_key,
        webhook_secret=said.webhook_secret,
    )
    row = await here.forges.apps.keep(new, here.clock(), here.new_id)
    note(target=str(row["id"]))
    return answer(wire.SavedIntegration(integration=_kept(row), reload_warning=await _reloaded()), 201)


@route(
    blueprint,
    "DELETE",
    f"{VCS}/<integration_id>",
    Audited("vcs_integration.delete", "vcs_integration", "{integration_id}"),
    described=Description(status=204),
)
async def delete_app(integration_id: str) -> Response:
    """Removes one; it is not used any more."""
    found = params.parse_uuid(integration_id)
    if found is None:
        raise InvalidError("invalid id")
    note(name=await services().forges.apps.delete(found))
    await _reloaded()
    return nothing()


@route(
    blueprint,
    "POST",
    f"{VCS}/reload",
    Audited("vcs_integration.reload", "vcs_integration"),
    described=Description(gives=wire.ActiveApps),
)
async def reload_apps() -> Response:
    """Reads what is kept anew. When something of it cannot be used, all stays as it was (500)."""
    try:
        active = await services().forges.apps.reload()
    except BadAppsError as error:
        return answer(Error(error=str(error)), 500)
    return answer(wire.ActiveApps(active=[_active(app) for app in active]))


async def _reloaded() -> str:
    """Takes the change into use; why that did not go, or nothing."""
    try:
        await services().forges.apps.reload()
    except BadAppsError as error:
        return str(error)
    return ""


def _kept(row: asyncpg.Record) -> wire.VcsIntegration:
    return wire.VcsIntegration(
        id=str(row["id"]),
        kind=row["kind"],
        name=row["name"],
        display_name=row["display_name"],
        app_id=row["app_id"],
        api_base=row["api_base"],
        enabled=row["enabled"],
        has_private_key=row["private_key"] is not None,
        has_webhook_secret=row["webhook_secret"] is not None,
        created_at=utc(row["created_at"]),
        updated_at=utc(row["updated_at"]),
    )


def _active(app: App) -> wire.ActiveApp:
    return wire.ActiveApp(
        id=str(app.id or NIL),
        name=app.name,
        kind=KIND,
        display_name=app.display_name,
        app_id=app.app_id,
        api_base=app.api,
        enabled=True,
        source="env" if app.id is None else "db",
        updated_at=utc_or_none(app.updated_at),
    )
