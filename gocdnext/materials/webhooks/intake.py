"""Webhooks come in: whose are they, what do they say, which runs do they start (contract-admin 8; design 9, 18 and 22).

Delivery, modifications and runs are one transaction, so a push is kept with its runs or not at all. Nothing here asks a
repository or a provider itself; `Configurations` does, before the runs are made and for a bounded time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from urllib.parse import parse_qs

import asyncpg
import orjson
import structlog

from gocdnext.db import queries
from gocdnext.db.pool import Connection, Database
from gocdnext.errors import ConflictError, InvalidError
from gocdnext.materials.arrivals import Arrival, Started, start_runs
from gocdnext.materials.together import Runs, again_after_deadlocks
from gocdnext.materials.webhooks import deliveries, ladder
from gocdnext.materials.webhooks.bitbucket import BITBUCKET
from gocdnext.materials.webhooks.deliveries import Answer, Delivery
from gocdnext.materials.webhooks.drift import Configurations, Drift, together
from gocdnext.materials.webhooks.events import BranchPush, Event, Headers, Nothing, PayloadError, Provider, TagPush
from gocdnext.materials.webhooks.events import Request as PullRequest
from gocdnext.materials.webhooks.github import GITHUB
from gocdnext.materials.webhooks.gitlab import GITLAB
from gocdnext.materials.webhooks.ladder import Verdict, Waiting
from gocdnext.pipeline.fingerprints import git_fingerprint, normal_git_url
from gocdnext.runs.crowd import Create
from gocdnext.secrets import hooks
from gocdnext.secrets.sealing import Keyring, UnsealError

_SQL = queries.load("webhooks")
_log = structlog.get_logger("webhooks")
PROVIDERS = {provider.name: provider for provider in (GITHUB, GITLAB, BITBUCKET)}
FORM = "application/x-www-form-urlencoded"
MAX_EVENTS = 50
"""Changes of one delivery that are looked at; Bitbucket sends five at most."""
MAX_NEIGHBOURS = 20
TRIES = 3
"""Of a transaction that another one got in the way of."""


class Webhooks:
    """The webhook room. Trio side; every method may raise DatabaseUnavailableError."""

    def __init__(
        self,
        db: Database,
        runs: Runs,
        keyring: Keyring,
        *,
        clock: Callable[[], datetime],
        configs: Configurations | None = None,
    ) -> None:
        """Without `configs` pushes change no configuration."""
        self._configs = configs
        self._db = db
        self._runs = runs
        self._keyring = keyring
        self._clock = clock

    def expects(self, provider: Provider, headers: Headers) -> Delivery:
        """The delivery that the headers announce. Raises InvalidError for one without an event: nothing is kept of it."""
        event = headers.get(provider.event_header, "")
        if not event:
            raise InvalidError(f"missing {provider.event_header} header")
        return deliveries.taken(provider, event, headers, self._clock())

    async def receive(self, delivery: Delivery, headers: Headers, body: bytes) -> Answer:
        """One delivery from its body to its answer; it is kept whatever becomes of it."""
        delivery.payload = _payload(body, headers.get("Content-Type", ""))
        answer = await self._refused(delivery, headers, body)
        return await self._concluded(delivery, answer)

    async def redeliver(self, delivery_id: int) -> tuple[int, Answer]:
        """Processes a kept delivery once more, as one of its own; its id. Raises NotFoundError, ConflictError."""
        row = await deliveries.show(self._db, delivery_id)
        if not row["verified"]:
            raise ConflictError(
                "this delivery was never shown to be the provider's: it can only be sent again from there"
            )
        if row["provider"] not in PROVIDERS:
            raise ConflictError("a delivery of a GitHub App can only be sent again from there")
        delivery = Delivery(
            provider=PROVIDERS[row["provider"]],
            event=row["event"],
            name=row["delivery"],
            headers=row["headers"],
            received_at=self._clock(),
            payload=row["payload"],
            verified=True,
            redelivery_of=delivery_id,
        )
        delivery.trace.passed("redelivery", f"of delivery {delivery_id}, whose signature was right")
        return await self._concluded_with_id(delivery, None)

    # ---- who sent it ---------------------------------------------------------------------------------

    async def _refused(self, delivery: Delivery, headers: Headers, body: bytes) -> Answer | None:
        """Why the delivery is not taken from this sender; None when it is (8.1, 3 to 7)."""
        provider, trace = delivery.provider, delivery.trace
        url = provider.repository(delivery.payload)
        if not url:
            trace.ended("repository", "the payload names no repository")
            return _refusal(400, f"invalid payload: {provider.no_url}", deliveries.REJECTED)
        sources = await self._db.fetch(_SQL.sources, normal_git_url(url))
        if not sources:
            trace.ended("repository", f"no project is bound to {normal_git_url(url)}")
            return _refusal(401, "no scm_source registered for this repo", deliveries.REJECTED)
        trace.passed("repository", f"{len(sources)} projects are bound to {normal_git_url(url)}")
        known, unreadable = self._secrets(sources)
        # All of them, so that the time does not tell which one fits.
        fits = [provider.verify(secret, headers, body) for secret in known]
        if any(fits):
            delivery.verified = True
            trace.passed("credential", "the signature or token is right")
            return None
        if unreadable:
            trace.ended("credential", f"the webhook secret cannot be opened: {unreadable}")
            _log.error("a webhook secret cannot be opened", provider=provider.name, why=unreadable)
            return _refusal(500, "internal error", deliveries.ERROR)
        if not known:
            trace.ended(
                "credential", "no project that is bound to this repository has a webhook secret: apply it again"
            )
            return _refusal(401, "no webhook secret registered for this repo", deliveries.REJECTED)
        trace.ended("credential", "the signature or token fits no secret of a project that is bound to this repository")
        return _refusal(401, provider.refusal, deliveries.REJECTED)

    def _secrets(self, sources: Sequence[asyncpg.Record]) -> tuple[list[str], str]:
        known, unreadable = [], ""
        for row in sources:
            try:
                secret = hooks.opened(self._keyring, row)
            except UnsealError as error:
                unreadable = str(error)
            else:
                known += [secret] if secret else []
        return known, unreadable

    # ---- what it says --------------------------------------------------------------------------------

    async def _concluded(self, delivery: Delivery, answer: Answer | None) -> Answer:
        return (await self._concluded_with_id(delivery, answer))[1]

    async def _concluded_with_id(self, delivery: Delivery, answer: Answer | None) -> tuple[int, Answer]:
        """Does what a delivery asks for, unless it is answered already, and keeps it."""
        if answer is None:
            try:
                events = delivery.provider.read(delivery.event, delivery.payload)[:MAX_EVENTS]
                return await self.carry_out(delivery, events)
            except PayloadError as error:
                delivery.trace.ended("payload", str(error))
                answer = _refusal(400, str(error), deliveries.ERROR)
            except asyncpg.PostgresError as error:
                _log.exception("a delivery failed", provider=delivery.provider.name, delivery=delivery.name)
                delivery.trace.ended("runs", f"the database refused: {type(error).__name__}")
                answer = _refusal(500, "internal error", deliveries.ERROR)
        final = answer
        return await self._db.run(lambda conn: deliveries.keep(conn, delivery, final)), final

    async def carry_out(self, delivery: Delivery, events: Sequence[Event]) -> tuple[int, Answer]:
        """The ladder with what a delivery says, and the transaction at its end; the delivery's id and its answer."""
        verdicts = []
        drift = together([found for event in events if (found := await self._drift(event, delivery)) is not None])
        for event in events:
            waiting = await self._waiting(event)
            event = await self._with_files(event, waiting, delivery)
            verdict = ladder.decide(event, waiting, delivery.provider.name, delivery.name, delivery.trace)
            if not waiting and not isinstance(event, Nothing) and not verdict.skipped_by:
                await self._explain(event, delivery)
            verdicts.append(verdict)
        blocked = await self._proposed(events, verdicts, delivery)
        arrivals = [arrival for verdict in verdicts for arrival in verdict.arrivals]

        async def work(conn: Connection, create: Create) -> tuple[int, Answer]:
            done = await start_runs(conn, create, arrivals, delivery.received_at)
            _tell(delivery, done)
            answer = _blocked(blocked, _answer(events, verdicts, done, drift))
            return await deliveries.keep(conn, delivery, answer), answer

        if arrivals:
            # A crowd of pushes to one branch shares its transactions.
            kind = tuple(arrival.pipeline_id for arrival in arrivals)
            return await again_after_deadlocks(self._runs, work, TRIES, kind=kind)
        answer = _blocked(blocked, _answer(events, verdicts, Started(), drift))
        return await self._db.run(lambda conn: deliveries.keep(conn, delivery, answer)), answer

    async def _drift(self, event: Event, delivery: Delivery) -> Drift | None:
        """What the push did to the configuration of projects (8.3, 5): never a reason to stop."""
        if self._configs is None or not isinstance(event, BranchPush):
            return None
        return await self._configs.pushed(event, delivery.trace)

    async def _with_files(self, event: Event, waiting: Sequence[Waiting], delivery: Delivery) -> Event:
        """A pull request with the files that it changes, where a material asks for paths (8.4)."""
        asks = isinstance(event, PullRequest) and any(one.paths for one in waiting)
        if self._configs is None or not asks or delivery.provider is not GITHUB:
            return event
        assert isinstance(event, PullRequest)
        return replace(event, changed=await self._configs.changed_files(event, delivery.trace))

    async def _proposed(
        self, events: Sequence[Event], verdicts: Sequence[Verdict], delivery: Delivery
    ) -> dict[str, object]:
        """Lets requests bring their configuration (8.7). Empty, or the refusal of a request whose own is not to be had."""
        refused: dict[str, object] = {}
        for event, verdict in zip(events, verdicts, strict=True):
            asks = isinstance(event, PullRequest) and not event.from_fork and verdict.arrivals
            if self._configs is None or not asks or delivery.provider is not GITHUB:
                continue
            assert isinstance(event, PullRequest)
            found = await self._configs.proposed(event, verdict.arrivals, delivery.trace)
            verdict.arrivals = list(found.arrivals)
            if found.error:
                refused = {"status": found.status, "error": found.error, "pr_number": event.number}
        return refused

    async def _waiting(self, event: Event) -> list[Waiting]:
        """The materials that the event may concern."""
        if isinstance(event, Nothing):
            return []
        if isinstance(event, TagPush):
            rows = await self._db.fetch(_SQL.waiting_for_tags, normal_git_url(event.url))
        else:
            branch = event.base if isinstance(event, PullRequest) else event.branch
            rows = await self._db.fetch(_SQL.waiting_for_branch, [git_fingerprint(event.url, branch)])
        return [
            Waiting(
                pipeline_id=row["pipeline_id"],
                material_id=row["id"],
                pipeline=f"{row['slug']}/{row['name']}",
                events=tuple(row["events"] or ()),
                paths=tuple(row["paths"] or ()),
                pipeline_events=tuple(row["pipeline_events"] or ()),
            )
            for row in rows
        ]

    async def _explain(self, event: Event, delivery: Delivery) -> None:
        """Nobody waits for this: what the pipelines of the repository's projects wait for instead."""
        assert not isinstance(event, Nothing)
        for row in await self._db.fetch(_SQL.neighbours, normal_git_url(event.url), MAX_NEIGHBOURS):
            events = ", ".join(row["events"] or ("push",))
            said = f"it waits for {events} on branch {row['branch']!r} of {normal_git_url(row['url'])}"
            delivery.trace.ended("materials", said, f"{row['slug']}/{row['name']}")


def _payload(body: bytes, content_type: str) -> object:
    """The JSON of a body; a body that is none is its text. A form carries it in a field."""
    if content_type.partition(";")[0].strip().lower() == FORM:
        try:
            fields = parse_qs(body.decode(), max_num_fields=10, strict_parsing=True)
            body = fields["payload"][0].encode()
        except (ValueError, KeyError):
            return body.decode(errors="replace")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")


def _refusal(status: int, text: str, word: str) -> Answer:
    return Answer(status, {"error": text}, word)


def _tell(delivery: Delivery, done: Started) -> None:
    """Writes down what became of each arrival. A transaction that is repeated tells it once more."""
    for arrival, run in done.runs:
        delivery.trace.passed("run", f"run {run.counter} of pipeline {run.pipeline_id} for {_short(arrival)}")
    for arrival in done.known:
        delivery.trace.ended("modification", f"{_short(arrival)} has started a run of {arrival.pipeline_id} before")
    for arrival, why in done.refused:
        delivery.trace.ended("run", f"no run of pipeline {arrival.pipeline_id}: {why}")


def _short(arrival: Arrival) -> str:
    return f"{arrival.kind} {arrival.branch!r} at {arrival.revision[:12]}"


def _answer(events: Sequence[Event], verdicts: Sequence[Verdict], done: Started, drift: Drift | None) -> Answer:
    """The answer of 8.3, 11 (and 8.5, 8.6), or of the rule that ended it."""
    by_event = sum(verdict.by_event for verdict in verdicts)
    by_paths = sum(verdict.by_paths for verdict in verdicts)
    entered = sum(len(verdict.arrivals) for verdict in verdicts)
    dropped: dict[str, object] = {}
    if by_paths:
        dropped["filtered_by_paths"] = by_paths
    if by_event:
        dropped["filtered_by_event"] = by_event
    drifted: dict[str, object] = {} if drift is None else {"drift": drift.told()}
    if not entered:
        return _without_runs(events, verdicts, dropped, drifted)
    if done.refused and not done.runs and not done.known:
        return Answer(500, {"error": "internal error"}, deliveries.ERROR)
    details = [
        {
            "pipeline_id": str(run.pipeline_id),
            "material_id": str(arrival.material_id),
            "run_id": str(run.run_id),
            "run_counter": run.counter,
        }
        for arrival, run in done.runs
    ]
    body: dict[str, object] = {
        "runs": [str(run.run_id) for _, run in done.runs],
        "run_details": details,
        "materials": entered,
        **dropped,
        **drifted,
    }
    for event in events:
        if isinstance(event, TagPush):
            body.setdefault("tag", event.tag)
        elif isinstance(event, PullRequest):
            body.setdefault("pr_number", event.number)
    return Answer(
        202,
        body,
        runs=[run.run_id for _, run in done.runs],
        material_id=done.runs[0][0].material_id if done.runs else None,
    )


def _blocked(refused: dict[str, object], answer: Answer) -> Answer:
    """The answer to a request whose own configuration is not to be had: what ran all the same, and why the rest did not."""
    if not refused:
        return answer
    status = refused["status"]
    assert isinstance(status, int)
    body: dict[str, object] = {"runs": [str(run) for run in answer.runs], "error": refused["error"]}
    body["pr_number"] = refused["pr_number"]
    return Answer(status, body, deliveries.ERROR, answer.runs, answer.material_id)


def _without_runs(
    events: Sequence[Event], verdicts: Sequence[Verdict], dropped: dict[str, object], drifted: dict[str, object]
) -> Answer:
    if marker := next((verdict.skipped_by for verdict in verdicts if verdict.skipped_by), ""):
        return Answer(200, {"skipped_by": marker, **drifted}, deliveries.SKIPPED)
    if not dropped and drifted:
        # The push has done something, though it starts nothing (8.3, 7).
        return Answer(202, {"runs": [], **drifted, "warning": _warning(events)}, deliveries.ACCEPTED)
    quiet = not dropped or (
        # A request or tag that no material listens to is nobody's business (8.5, 8.6).
        "filtered_by_paths" not in dropped
        and all(isinstance(event, (PullRequest, TagPush, Nothing)) for event in events)
    )
    if quiet:
        return Answer(204, None, deliveries.IGNORED)
    if drifted and "filtered_by_paths" not in dropped:
        return Answer(202, {"runs": [], **dropped, **drifted}, deliveries.ACCEPTED)
    return Answer(200, {"runs": [], **dropped, **drifted}, deliveries.IGNORED)


def _warning(events: Sequence[Event]) -> str:
    where = ", ".join(
        f"{normal_git_url(event.url)}@{event.branch}" for event in events if isinstance(event, BranchPush)
    )
    return f"no pipeline material matched {where} — no run started"
