"""Asks a server whether a pipeline has a finished run that fits."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote

import kit
import kit_http

ENDED = ("success", "failed", "canceled")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
HINTS = {
    401: "`api-token` is not valid there",
    403: "`api-token` may not read runs",
    404: "is `api-url` the address of a gocdnext server?",
}

Run = dict[str, Any]


class Wanted(NamedTuple):
    tag: str
    revision: str
    status: str
    max_age: timedelta

    def is_for(self, run: Run) -> bool:
        """Whether the run is for the tag and the commit, with all that only a run's own answer tells."""
        revisions = list((run.get("revisions") or {}).values())
        tags = {each.get("branch") for each in revisions} | {(run.get("cause_detail") or {}).get("tag_name")}
        if self.tag and self.tag not in tags:
            return False
        commits = [str(each.get("revision", "")).lower() for each in revisions]
        return not self.revision or any(commit.startswith(self.revision) for commit in commits)


def work() -> None:
    server = kit_http.address("api-url")
    token = kit.needed_secret("api-token")
    project, pipeline = kit.needed("project"), kit.needed("pipeline")
    status = kit.choice("expected-status", ENDED, "success")
    wanted = Wanted(kit.text("tag"), commit(kit.text("revision")), status, age(kit.text("max-age", "7d")))
    attempts = kit.number("poll-attempts", 1, 1, 1000)
    interval = kit.number("poll-interval", 30, 1, 3600)
    limit = kit.number("runs-limit", 100, 1, 200)
    output = kit.text("output", ".gocdnext/preflight.env")
    client = kit_http.Http({"Authorization": f"Bearer {token}", "Accept": "application/json"})
    for attempt in range(1, attempts + 1):
        with kit_http.answers_from("a gocdnext server"):
            runs = matching(client, server, {"project": project, "pipeline": pipeline, "limit": str(limit)}, wanted)
            found = next((run for run in runs if fits(run, wanted)), None)
        if found is not None:
            report(found, output)
            return
        if attempt < attempts:
            kit.say(f"no run fits yet ({told(runs)}); asking again in {interval} s")
            time.sleep(interval)
    target = " ".join(
        filter(None, [wanted.tag and f"tag {wanted.tag}", wanted.revision and f"commit {wanted.revision}"])
    )
    raise kit.FailedError(
        f"{project}/{pipeline} has no run{' for ' if target else ''}{target} with status {status} that ended within "
        f"{kit.text('max-age', '7d')} ({told(runs)})"
    )


def matching(client: kit_http.Http, server: str, query: dict[str, str], wanted: Wanted) -> list[Run]:
    """The runs for the tag and the commit, newest first."""

    def ask(path: str, params: dict[str, str]) -> Any:
        answer = client.send("GET", f"{server}/api/v1/{path}", params=params, repeat=True)
        return answer.expect("the server did not answer the question", HINTS).json()

    runs: list[Run] = ask("runs", query)["runs"]
    # A server that does not know the parameter `pipeline` leaves it to us.
    runs = [run for run in runs if run["pipeline_name"] == query["pipeline"]]
    if not wanted.tag and not wanted.revision:
        return runs
    recent = [run for run in runs if run["status"] not in ENDED or ended_within(run, wanted.max_age)]
    # Only the answer about one run tells what it ran.
    details: list[Run] = [ask(f"runs/{quote(run['id'])}", {"logs": "0"}) for run in recent]
    return [run for run in details if wanted.is_for(run)]


def fits(run: Run, wanted: Wanted) -> bool:
    return bool(run["status"] == wanted.status) and ended_within(run, wanted.max_age)


def ended_within(run: Run, longest: timedelta) -> bool:
    try:
        ended = datetime.fromisoformat(run.get("finished_at") or "")
    except ValueError:
        return False
    return datetime.now(UTC) - ended <= longest


def report(run: Run, output: str) -> None:
    values = {
        "RUN_ID": run["id"],
        "RUN_COUNTER": str(run["counter"]),
        "RUN_STATUS": run["status"],
        "RUN_FINISHED_AT": run["finished_at"],
    }
    kit.deliver(output, values)
    kit.say(f"run #{run['counter']} ended as {run['status']} at {run['finished_at']}")


def told(runs: list[Run]) -> str:
    """What was found instead."""
    if not runs:
        return "there is none at all"
    shown = ", ".join(f"#{run['counter']} {run['status']}" for run in runs[:5])
    return f"found {shown}{' and more' if len(runs) > 5 else ''}"


def commit(value: str) -> str:
    if value and not re.fullmatch(r"[0-9a-fA-F]{7,64}", value):
        raise kit.InputError(f"`revision` is {kit.shown(value)}; write seven characters or more of a commit's id")
    return value.lower()


def age(value: str) -> timedelta:
    if not re.fullmatch(r"([0-9]{1,6}[smhdw])+", value):
        raise kit.InputError(f"`max-age` is {kit.shown(value)}; write for example 90m, 12h or 7d")
    return timedelta(seconds=sum(int(count) * UNITS[unit] for count, unit in re.findall(r"([0-9]+)([smhdw])", value)))


if __name__ == "__main__":
    kit.main(work)
