"""`POST /api/webhooks/{provider}`: deliveries of providers. Public: the signature or token is the credential (8.1)."""

from __future__ import annotations

import orjson
from quart import Blueprint, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from gocdnext.api import params
from gocdnext.api.body import MAX_BODY
from gocdnext.api.context import services
from gocdnext.api.respond import JSON, nothing
from gocdnext.api.routing import NOT_AUDITED, route
from gocdnext.errors import InvalidError
from gocdnext.materials.webhooks.bitbucket import BITBUCKET
from gocdnext.materials.webhooks.deliveries import Answer, wanted_headers
from gocdnext.materials.webhooks.events import Provider
from gocdnext.materials.webhooks.github import GITHUB
from gocdnext.materials.webhooks.gitlab import GITLAB

blueprint = Blueprint("webhooks", __name__)
# None of these is in the audit trail: each delivery has a row of its own that says more.


@route(blueprint, "POST", "/api/webhooks/github", NOT_AUDITED)
async def github() -> Response:
    """A delivery of GitHub."""
    return await _receive(GITHUB)


@route(blueprint, "POST", "/api/webhooks/gitlab", NOT_AUDITED)
async def gitlab() -> Response:
    """A delivery of GitLab."""
    return await _receive(GITLAB)


@route(blueprint, "POST", "/api/webhooks/bitbucket", NOT_AUDITED)
async def bitbucket() -> Response:
    """A delivery of Bitbucket Cloud."""
    return await _receive(BITBUCKET)


async def _receive(provider: Provider) -> Response:
    here = services()
    headers = {name: request.headers[name] for name in wanted_headers(provider) if name in request.headers}
    delivery = here.webhooks.expects(provider, headers)
    try:
        body = await params.body()
    except RequestEntityTooLarge:
        raise InvalidError(f"read body: larger than {MAX_BODY} bytes") from None
    given = await here.webhooks.receive(delivery, headers, body)
    here.metrics.webhook_delivery(provider.name, given.word)
    return written(given)


def written(given: Answer) -> Response:
    """The answer as the provider gets it."""
    if given.body is None:
        return nothing(given.status)
    return Response(orjson.dumps(given.body), given.status, content_type=JSON)
