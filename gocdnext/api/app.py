"""The HTTP application: blueprints, the order of checks around each request, the error table, and what is done to every
answer.

Nothing here knows a resource. Order: OPTIONS, unknown path or verb, NUL bytes, role, handler.
"""

from __future__ import annotations

from quart import Response, request
from quart.ctx import RequestContext
from quart.typing import ResponseTypes
from quart_trio import QuartTrio

from gocdnext import tracing
from gocdnext.api import (
    account,
    admin_health,
    agents,
    artifacts,
    audit,
    auth_providers,
    authorise,
    compression,
    conditional,
    configs,
    cors,
    crons,
    dashboard,
    deliveries,
    description,
    docs,
    environments,
    errors,
    forges,
    groups,
    health,
    integrations,
    issuer,
    job_runs,
    pipelines,
    plugins,
    project_settings,
    projects,
    reports,
    request_ids,
    retention,
    runner_profiles,
    runs,
    scm_credentials,
    secret_backends,
    secrets,
    service_accounts,
    signin,
    signin_providers,
    spans,
    trail,
    users,
    value_stream,
    webhooks,
)
from gocdnext.api.body import BODY_TIMEOUT, MAX_BODY, BoundedRequest
from gocdnext.api.connection import Connection
from gocdnext.api.context import EXTENSION
from gocdnext.api.routing import Rule
from gocdnext.api.services import Services
from gocdnext.errors import InvalidError

BLUEPRINTS = (
    health.blueprint,
    projects.blueprint,
    configs.blueprint,
    project_settings.blueprint,
    runs.blueprint,
    job_runs.blueprint,
    pipelines.blueprint,
    plugins.blueprint,
    agents.blueprint,
    secrets.blueprint,
    secret_backends.blueprint,
    issuer.blueprint,
    crons.blueprint,
    retention.blueprint,
    environments.blueprint,
    reports.blueprint,
    artifacts.blueprint,
    signin.blueprint,
    signin_providers.blueprint,
    auth_providers.blueprint,
    account.blueprint,
    users.blueprint,
    service_accounts.blueprint,
    groups.blueprint,
    value_stream.blueprint,
    dashboard.blueprint,
    audit.blueprint,
    webhooks.blueprint,
    deliveries.blueprint,
    integrations.blueprint,
    forges.blueprint,
    admin_health.blueprint,
    scm_credentials.blueprint,
    runner_profiles.blueprint,
    description.blueprint,
    docs.blueprint,
)


class Application(QuartTrio):
    """QuartTrio with our connection, request and rules."""

    asgi_http_class = Connection
    request_class = BoundedRequest
    url_rule_class = Rule

    async def full_dispatch_request(self, request_context: RequestContext | None = None) -> ResponseTypes:
        if not tracing.on():
            return await super().full_dispatch_request(request_context)
        with spans.of(request) as span:
            response = await super().full_dispatch_request(request_context)
            spans.finish(span, response)
            return response


def create_app(services: Services) -> QuartTrio:
    """The application over these services. It serves nothing by itself: see `listen`."""
    app = Application("gocdnext", static_folder=None, template_folder=None)
    app.extensions[EXTENSION] = services
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_BODY
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT
    # One stalled reader costs its connection's TCP_USER_TIMEOUT, not a clock of its own.
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.url_map.merge_slashes = False
    errors.register(app)
    app.before_request(_check)
    app.after_request(_finish)
    trail.register(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app


async def _check() -> Response | None:
    request_ids.begin(request)
    if request.method == "OPTIONS":
        return cors.preflight()
    if request.routing_exception is not None:
        return None
    if "\0" in request.path or any("\0" in value for values in request.args.lists() for value in values[1]):
        raise InvalidError("the address must not contain a NUL byte")
    await authorise.authorise()
    return None


async def _finish(response: Response) -> Response:
    request_ids.finish(response)
    conditional.finish(request, response)
    await compression.finish(request, response)
    cors.allow(request, response)
    authorise.finish(response)
    response.headers["X-Content-Type-Options"] = "nosniff"
    if isinstance(request, BoundedRequest):
        await request.body.let_it_end()
    return response
