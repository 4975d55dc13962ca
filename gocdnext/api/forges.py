"""Telling providers how runs stand, and the secret of a project's webhook (contract-admin 6.7, 6.9)."""

from __future__ import annotations

from quart import Blueprint, Response

from gocdnext.api import people
from gocdnext.api.context import services
from gocdnext.api.respond import answer, utc
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.api.wire import forges as wire
from gocdnext.forges.registration import Result
from gocdnext.projects import check_reporting

blueprint = Blueprint("forges", __name__)
CHECKS = "/api/v1/projects/<slug>/check-reporting"


@route(blueprint, "GET", CHECKS, described=Description(gives=wire.CheckReporting))
async def show_check_reporting(slug: str) -> Response:
    """Whether runs are told as check runs, commit statuses or both; and what could not be told lately."""
    return await _shown(slug)


@route(
    blueprint,
    "PUT",
    CHECKS,
    Audited("project_check_reporting.set", "project", "{slug}"),
    described=Description(takes=wire.CheckReportingBody, gives=wire.CheckReporting),
)
async def set_check_reporting(slug: str) -> Response:
    """How runs are told that start from now on."""
    said = await people.body(wire.CheckReportingBody)
    note(slug=slug, mode=said.mode)
    await check_reporting.set_mode(services().db, slug, said.mode)
    return await _shown(slug)


@route(
    blueprint,
    "POST",
    "/api/v1/projects/<slug>/scm-sources/rotate-webhook-secret",
    Audited("webhook_secret.rotate", "scm_source"),
    described=Description(gives=wire.RotatedSecret),
)
async def rotate_webhook_secret(slug: str) -> Response:
    """A new secret for the project's webhook; the old one is refused from now on. The provider's hook is brought up to date
    where the server may do that."""
    note(slug=slug)
    made = await services().forges.registration.rotate(slug)
    note(target=str(made.source_id), provider=made.provider, url=made.url)
    message = wire.RotatedSecret(
        scm_source_id=str(made.source_id),
        generated_webhook_secret=made.secret,
        webhook=None if made.webhook is None else webhook_result(made.webhook),
    )
    return answer(message)


async def _shown(slug: str) -> Response:
    found = await check_reporting.read(services().db, slug)
    given_up = [
        wire.GivenUpReport(
            run_id=str(row["run_id"]),
            pipeline_name=row["pipeline"],
            counter=row["counter"],
            status=row["wanted"],
            attempts=row["attempts"],
            error=row["error"] or "",
            at=utc(row["updated_at"]),
        )
        for row in found.given_up
    ]
    return answer(wire.CheckReporting(mode=found.mode, default_mode=check_reporting.BOTH, given_up=given_up))


def webhook_result(result: Result) -> wire.WebhookResult:
    """What became of a hook, as it is answered."""
    return wire.WebhookResult(
        scm_source_url=result.url,
        provider=result.provider,
        status=result.status,
        hook_id=result.hook_id,
        error=result.error,
    )
