"""Every request that changes something leaves one event in the audit trail, whatever came of it.

What a route does is declared where it is registered (`routing.route`); a handler adds what only it knows with `note`. The
event is written here, once, after the answer is made and before it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
import trio
from quart import Response, g, request
from quart_trio import QuartTrio

from gocdnext import audit
from gocdnext.api.address import client_address
from gocdnext.api.context import services
from gocdnext.api.params import parse_uuid
from gocdnext.audit import Detail
from gocdnext.auth.identity import Subject

_LOG = structlog.get_logger(__name__)
STRANGERS = 60
"""Events of refused callers whom nobody knows that are kept in a minute: they must not be able to fill the database."""
MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Audited:
    """What a route does, in the words of contract-admin 7.3. `target` is made from the variables of the path."""

    action: str
    target_type: str
    target: str = ""


def note(*, target: str | None = None, **details: Detail) -> None:
    """Adds details to the event of this request, and says what its target is where the path does not. Never the value
    of a secret."""
    if target is not None:
        g.audit_target = target
    g.setdefault("audit_details", {}).update(details)


def unchanged() -> None:
    """Says that this request, though it is answered as done, found nothing to do: it leaves no event."""
    g.audit_unchanged = True


def register(app: QuartTrio) -> None:
    """Puts the trail in force for every route of the application."""
    writer = _Writer()
    app.after_request(_answered)
    app.teardown_request(writer.write)


async def _answered(response: Response) -> Response:
    g.audit_status = response.status_code
    return response


class _Writer:
    """Writes the event of a request when the request is over, also when its caller is gone."""

    def __init__(self) -> None:
        self._minute, self._strangers = 0.0, 0

    async def write(self, _: BaseException | None) -> None:
        """The end of a request."""
        declared: Audited | None = getattr(request.url_rule, "audited", None)
        if declared is None:
            return
        status: int | None = g.get("audit_status")
        here = services()
        subject: Subject | None = g.get("subject")
        outcome = _outcome(status)
        if outcome == audit.DONE and g.get("audit_unchanged", False):
            return
        if outcome != audit.DONE and subject is None and here.settings.auth_enabled and not self._may_write():
            return
        event = audit.Event(
            id=here.new_id(),
            at=here.clock(),
            action=declared.action,
            target_type=declared.target_type,
            target_id=g.get("audit_target") or declared.target.format_map(_plain(request.view_args or {})),
            outcome=outcome,
            status=status,
            actor_id=None if subject is None else subject.id,
            actor_email="" if subject is None else subject.email,
            actor_name="" if subject is None else subject.name,
            address=client_address(request, here.settings.trusted_proxies),
            request_id=g.get("request_id", ""),
            metadata=g.get("audit_details", {}),
        )
        await audit.record(here.db, event)

    def _may_write(self) -> bool:
        now = trio.current_time()
        if now - self._minute >= MINUTE:
            self._minute, self._strangers = now, 0
        self._strangers += 1
        if self._strangers == STRANGERS + 1:
            _LOG.warning("too many requests of strangers for the audit trail, the rest of this minute is left out")
        return self._strangers <= STRANGERS


def _outcome(status: int | None) -> str:
    if status is None:
        return audit.UNKNOWN
    if status >= 500:
        return audit.FAILED
    return audit.REFUSED if status >= 400 else audit.DONE


def _plain(values: dict[str, str]) -> dict[str, str]:
    """The variables of a path; an id in the one spelling that all events have."""
    return {name: _spelled(value) if name.endswith("_id") else value for name, value in values.items()}


def _spelled(value: str) -> str:
    found = parse_uuid(value)
    return value if found is None else str(found)
