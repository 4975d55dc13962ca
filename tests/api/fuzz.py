"""Requests made up from the API's document, sent to a served application. What comes back is judged twice: by schemathesis
here, and by the watch that every application under test has (`conformance`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from tests.api.crowd import ADMIN, machine, person
from tests.api.world import World

if os.environ.get("CI") != "true":
    pytest.importorskip("schemathesis")

import requests
import schemathesis
from schemathesis.checks import CHECKS, load_all_checks

TIMEOUT = 30
"""Seconds for one answer."""
ENDLESS = frozenset({"runs.stream_logs"})
"""Asked about an open run, these answer until it ends."""
JUDGES = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")


async def fuzzed(world: World, examples: int, seed: int | str) -> int:
    """Sends so many requests to every operation, half of them about things that exist; how many operations there were.
    Raises AssertionError for a 500 and for an answer that is not described."""
    world.http.headers.update(ADMIN)
    document = (await world.http.get("/api/v1/openapi.json")).json()
    return await trio.to_thread.run_sync(_walk, world.base, document, await things(world), examples, seed)


async def things(world: World) -> dict[str, str]:
    """One of each kind of thing that paths speak of."""
    pipeline_id = (await world.apply())["pipelines"][0]["pipeline_id"]
    run_id = await world.trigger(pipeline_id)
    run = (await world.http.get(f"/api/v1/runs/{run_id}")).json()
    group = await world.http.post("/api/v1/admin/groups", json={"name": "approvers"})
    return {
        "slug": "billing",
        "name": "production",
        "pipeline_id": pipeline_id,
        "run_id": run_id,
        "job_id": run["stages"][0]["jobs"][0]["id"],
        "agent_id": str((await world.agent_online()).id),
        "user_id": str((await person(world, "viewer")).id),
        "account_id": str((await machine(world, "viewer")).id),
        "group_id": group.json()["id"],
        "delivery_id": "1",
        "token_id": str(uuid4()),
        "token": "a.b.c",
    }


def _walk(base: str, document: dict[str, Any], known: Mapping[str, str], examples: int, seed: int | str) -> int:
    load_all_checks()
    found = [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]
    # What removes things comes last.
    found.sort(key=lambda operation: (operation.method.upper() == "DELETE", operation.path))
    failures: list[Exception] = []
    with requests.Session() as session:
        for operation in found:
            try:
                _ask(operation, base, session, known, examples, seed)
            except (AssertionError, ExceptionGroup, requests.RequestException) as failure:
                failure.add_note(f"{operation.label}, with the seed {seed}")
                failures.append(failure)
    if failures:
        raise ExceptionGroup("answers that are not as described", failures)
    return len(found)


def _ask(
    operation: Any, base: str, session: requests.Session, known: Mapping[str, str], examples: int, seed: int | str
) -> None:
    modes = [operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode]
    endless = operation.definition.raw["operationId"] in ENDLESS

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @seeded(seed)
    @given(case=st.one_of(modes), about_known=st.booleans())
    def ask(case: Any, about_known: bool) -> None:
        if about_known and not endless:
            case.path_parameters.update({name: known.get(name, value) for name, value in case.path_parameters.items()})
        answer = case.call(base_url=base, session=session, headers=ADMIN, timeout=TIMEOUT)
        assert answer.status_code != 500, f"{case.as_curl_command()}: {answer.text}"
        if answer.status_code != 405:  # of an address that another operation has
            case.validate_response(answer, checks=CHECKS.get_by_names(JUDGES))

    ask()
