"""The webhook of a GitHub App: somebody asks at GitHub for a check to be run again (contract-admin 8.8).

The run that is repeated and the word that this delivery has done so are one transaction. Nothing else starts a run here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import msgspec
import orjson
import structlog

from gocdnext import audit
from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import DomainError, InvalidError
from gocdnext.forges.apps import Apps
from gocdnext.forges.github_app import App
from gocdnext.forges.places import place_of
from gocdnext.materials.webhooks import deliveries, events
from gocdnext.materials.webhooks.deliveries import ERROR, IGNORED, REJECTED, Answer, Delivery
from gocdnext.materials.webhooks.events import Headers, PayloadError
from gocdnext.materials.webhooks.github import GITHUB
from gocdnext.runs.creation import CreatedRun
from gocdnext.runs.service import RunService

PROVIDER = replace(GITHUB, name="github_app")
_SQL = queries.load("status_reports")
_log = structlog.get_logger("webhooks")


class _Owner(msgspec.Struct):
    login: str


class _Repository(msgspec.Struct):
    name: str
    owner: _Owner


class _Id(msgspec.Struct):
    id: int


class _CheckRun(msgspec.Struct):
    id: int
    external_id: str = ""


class _CheckRunEvent(msgspec.Struct):
    action: str
    check_run: _CheckRun
    repository: _Repository | None = None
    installation: _Id | None = None


class AppWebhook:
    """Deliveries of GitHub Apps. Trio side; every method may raise DatabaseUnavailableError."""

    def __init__(
        self,
        db: Database,
        runs: RunService,
        apps: Apps,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
    ) -> None:
        self._db = db
        self._runs = runs
        self._apps = apps
        self._clock = clock
        self._new_id = new_id

    def expects(self, headers: Headers) -> Delivery:
        """The delivery that the headers announce. Raises InvalidError for one without an event: nothing is kept of it."""
        event = headers.get(PROVIDER.event_header, "")
        if not event:
            raise InvalidError(f"missing {PROVIDER.event_header} header")
        return deliveries.taken(PROVIDER, event, headers, self._clock())

    async def receive(self, delivery: Delivery, headers: Headers, body: bytes) -> Answer:
        """One delivery from its body to its answer; it is kept whatever becomes of it."""
        try:
            delivery.payload = orjson.loads(body)
        except orjson.JSONDecodeError:
            delivery.payload = body.decode(errors="replace")
        answer = await self._refused(delivery, headers, body) or await self._done(delivery)
        await self._db.run(lambda conn: deliveries.keep(conn, delivery, answer))
        return answer

    async def _refused(self, delivery: Delivery, headers: Headers, body: bytes) -> Answer | None:
        if not delivery.name:
            delivery.trace.ended("delivery", "it has no id, so nobody could tell whether it was here before")
            return _refusal(400, f"missing {PROVIDER.delivery_header} header", REJECTED)
        app = _sender(await self._apps.active(), delivery.payload)
        if app is None or not app.webhook_secret:
            delivery.trace.ended("app", "it is of no GitHub App that this server has with a webhook secret")
            return _refusal(401, "unknown or unconfigured github app", REJECTED)
        if not PROVIDER.verify(app.webhook_secret, headers, body):
            delivery.trace.ended("credential", f"the signature does not fit the secret of {app.name}")
            return _refusal(401, "invalid signature", REJECTED)
        delivery.verified = True
        delivery.trace.passed("credential", f"the signature of {app.name} is right")
        return None

    async def _done(self, delivery: Delivery) -> Answer:
        if delivery.event == "ping":
            return Answer(204)
        if delivery.event != "check_run":
            return _ignored(delivery, "event", "only check_run does something here")
        try:
            asked = events.converted(delivery.payload, _CheckRunEvent, "check_run")
        except PayloadError as error:
            delivery.trace.ended("payload", str(error))
            return _refusal(400, "invalid check_run payload", ERROR)
        if asked.action != "rerequested":
            return _ignored(delivery, "action", "only `rerequested` repeats a run")
        run_id = await self._meant(asked)
        if run_id is None:
            return _ignored(delivery, "check", "it is no check that this server has made there")
        return await self._repeated(delivery, run_id)

    async def _meant(self, asked: _CheckRunEvent) -> UUID | None:
        """The run of the check, if everything that is said of it is what is kept of it."""
        try:
            run_id = UUID(asked.check_run.external_id)
        except ValueError:
            return None
        row = await self._db.fetchrow(_SQL.check_of_run, run_id)
        if row is None or asked.installation is None or asked.repository is None:
            return None
        place = place_of("github", row["url"])
        path = f"{asked.repository.owner.login}/{asked.repository.name}"
        same = (asked.check_run.id, asked.installation.id) == (row["check_run_id"], row["installation_id"])
        return run_id if same and place is not None and place.path.lower() == path.lower() else None

    async def _repeated(self, delivery: Delivery, run_id: UUID) -> Answer:
        async def claim(conn: Connection) -> bool:
            return await conn.fetchval(_SQL.keep_app_delivery, delivery.name, delivery.received_at) is not None

        try:
            made = await self._runs.rerun_once(run_id, f"github:rerun:{delivery.name}", claim)
        except DomainError as error:
            return _ignored(delivery, "run", str(error))
        if made is None:
            return _ignored(delivery, "delivery", "it was here before")
        delivery.trace.passed("run", f"run {made.counter} repeats {run_id}")
        await self._db.execute(_SQL.app_delivery_started, delivery.name, made.run_id)
        await self._told(delivery, run_id, made)
        return Answer(204, runs=[made.run_id])

    async def _told(self, delivery: Delivery, old: UUID, made: CreatedRun) -> None:
        """The audit trail has what was done at GitHub too; who did it is not known to be anybody here."""
        details: dict[str, audit.Detail] = {
            "rerun_of": str(old),
            "counter": made.counter,
            "cause": "github_rerun",
            "delivery": delivery.name,
        }
        event = audit.Event(
            id=self._new_id(),
            at=self._clock(),
            action="run.rerun",
            target_type="run",
            target_id=str(made.run_id),
            outcome=audit.DONE,
            metadata=details,
        )
        await audit.record(self._db, event)


def _sender(active: list[App], payload: object) -> App | None:
    """The App that the payload (not verified yet) names, or the only one there is."""
    named = events.number_at(payload, "check_run", "app", "id") or events.number_at(payload, "hook", "app_id")
    known = [app for app in active if app.app_id == named]
    return known[0] if known else active[0] if len(active) == 1 else None


def _refusal(status: int, text: str, word: str) -> Answer:
    return Answer(status, {"error": text}, word)


def _ignored(delivery: Delivery, rule: str, said: str) -> Answer:
    delivery.trace.ended(rule, said)
    return Answer(204, word=IGNORED)
