"""`POST /api/webhooks/{provider}`: deliveries of providers. Public: the signature or token is the credential (8.1)."""

from __future__ import annotations

from typing import Any

import orjson
from quart import Blueprint, Response, request

from gocdnext.api import params, wire
from gocdnext.api.body import MAX_BODY
from gocdnext.api.context import services
from gocdnext.api.respond import JSON, nothing
from gocdnext.api.routing import NOT_AUDITED, Answer, Description, route
from gocdnext.errors import InvalidError
from gocdnext.forges.app_webhook import PROVIDER
from gocdnext.materials.webhooks import deliveries
from gocdnext.materials.webhooks.bitbucket import BITBUCKET
from gocdnext.materials.webhooks.events import Provider
from gocdnext.materials.webhooks.github import GITHUB
from gocdnext.materials.webhooks.gitlab import GITLAB
from gocdnext.materials.webhooks.intake import FORM

blueprint = Blueprint("webhooks", __name__)


def _described(provider: Provider) -> Description:
    """What a provider sends, and is told."""
    return Description(
        forms={JSON: Any, FORM: wire.DeliveryForm},
        reads={
            provider.event_header: "What the delivery is about.",
            provider.delivery_header: "The provider's id of it.",
            provider.credential_header: "Its signature, or the secret itself, as the provider has it.",
        },
        status=202,
        gives=wire.Received,
        also=(
            Answer(gives=wire.Received),
            Answer(status=204),
            Answer(gives=wire.Blocked, status=422),
            Answer(gives=wire.Blocked, status=503),
        ),
        fails=frozenset({409}),
    )


# None of these is in the audit trail: each delivery has a row of its own that says more.


@route(blueprint, "POST", "/api/webhooks/github", NOT_AUDITED, described=_described(GITHUB))
async def github() -> Response:
    """A delivery of GitHub."""
    return await _receive(GITHUB)


@route(blueprint, "POST", "/api/webhooks/gitlab", NOT_AUDITED, described=_described(GITLAB))
async def gitlab() -> Response:
    """A delivery of GitLab."""
    return await _receive(GITLAB)


@route(blueprint, "POST", "/api/webhooks/bitbucket", NOT_AUDITED, described=_described(BITBUCKET))
async def bitbucket() -> Response:
    """A delivery of Bitbucket Cloud."""
    return await _receive(BITBUCKET)


@route(blueprint, "POST", "/api/webhooks/github/app", NOT_AUDITED, described=Description(status=204))
async def github_app() -> Response:
    """A delivery of a GitHub App: a check is to be run again (8.8)."""
    here = services()
    headers = _headers(PROVIDER)
    delivery = here.app_webhook.expects(headers)
    given = await here.app_webhook.receive(delivery, headers, await _body())
    here.metrics.webhook_delivery(PROVIDER.name, given.word)
    return written(given)


async def _receive(provider: Provider) -> Response:
    here = services()
    headers = _headers(provider)
    delivery = here.webhooks.expects(provider, headers)
    given = await here.webhooks.receive(delivery, headers, await _body())
    here.metrics.webhook_delivery(provider.name, given.word)
    return written(given)


def _headers(provider: Provider) -> dict[str, str]:
    return {name: request.headers[name] for name in deliveries.wanted_headers(provider) if name in request.headers}


async def _body() -> bytes:
    data = await params.body_within(MAX_BODY)
    if data is None:
        raise InvalidError(f"read body: larger than {MAX_BODY} bytes")
    return data


def written(given: deliveries.Answer) -> Response:
    """The answer as the provider gets it."""
    if given.body is None:
        return nothing(given.status)
    return Response(orjson.dumps(given.body), given.status, content_type=JSON)
