"""Writes a comment on the pull or merge request that started the run, or updates it."""

import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import kit
import kit_http

MOST_PAGES = 50
"""Pages of a hundred comments that are searched for the one to update."""
HINTS = {
    401: "the token is not valid",
    403: "the token must be allowed to write comments",
    404: "the token must see the repository, and `api-base` must be its server's API",
}


class Request(NamedTuple):
    """A pull or merge request: its web server, its repository (`owner/name`, groups included) and its number."""

    server: str
    repository: str
    number: str


class Comments(NamedTuple):
    """How a provider keeps comments."""

    address: str
    """Of the list; new comments are posted there."""
    one: Callable[[str], str]
    """Address of a comment by its id."""
    method: str
    """That changes one."""
    limit: int
    """Characters."""
    headers: dict[str, str]
    auth: tuple[str, str] | None
    wrap: Callable[[str], dict[str, Any]]
    """The body of a request for a text."""
    text: Callable[[dict[str, Any]], str]


PROVIDERS = ("github", "gitlab", "bitbucket")
# Invisible in the rendered text: an HTML comment, and for Bitbucket, which shows those, a link that nothing refers to.
MARKS = {"github": "<!-- {} -->", "gitlab": "<!-- {} -->", "bitbucket": "[//]: # ({})"}
ADDRESS = re.compile(r"(https?://[^/]+)/(.+?)(?:/-)?/(pull|merge_requests|pull-requests)/(\d+)")
KINDS = {"pull": "github", "merge_requests": "gitlab", "pull-requests": "bitbucket"}


def work() -> None:
    mode = kit.choice("mode", ("upsert", "create"), "upsert")
    provider = kit.choice("provider", ("auto", *PROVIDERS), "auto")
    base = kit_http.address("api-base") if kit.text("api-base") else ""
    dry = kit.flag("dry-run", False)
    body = kit.block("body") or (kit.read("body-file") if kit.text("body-file") else "")
    if not body.strip():
        raise kit.InputError("there is nothing to write: `body` is empty, and so is `body-file` or it is not given")
    names = [os.environ.get(name, "") for name in ("CI_PROJECT_SLUG", "CI_PIPELINE_NAME", "CI_JOB_NAME")]
    marker = kit.text("marker", "/".join(filter(None, names)) or "comment")
    if not os.environ.get("CI_PULL_REQUEST_KEY"):
        kit.say("no pull request has started this run; nothing to do")
        return
    request, provider = origin(provider)
    mark = MARKS[provider].format(f"gocdnext: {re.sub(r'[^A-Za-z0-9._/-]', '-', marker)}")
    if dry:
        kit.say(f"would write to {provider} {request.repository} {request.number} ({mode}):")
        print(kit.masked(body), flush=True)
        return
    write(comments(provider, request, base), mode, mark, body)


def origin(provider: str) -> tuple[Request, str]:
    """The request that started the run, and who serves it."""
    url = os.environ.get("CI_PULL_REQUEST_URL", "")
    match = ADDRESS.match(url)
    if not match:
        raise kit.FailedError(
            f"CI_PULL_REQUEST_URL is {kit.shown(url)}, which is no address of a pull or merge request"
        )
    server, repository, kind, number = match.groups()
    return Request(server, repository, number), KINDS[kind] if provider == "auto" else provider


def comments(provider: str, request: Request, base: str) -> Comments:
    """The list of comments of the request. Raises InputError when its credentials are missing."""
    return {"github": github, "gitlab": gitlab, "bitbucket": bitbucket}[provider](request, base)


def github(request: Request, base: str) -> Comments:
    public = "https://api.github.com" if request.server == "https://github.com" else f"{request.server}/api/v3"
    repository = f"{base or public}/repos/{request.repository}"
    headers = {
        "Authorization": f"Bearer {credential('GITHUB_TOKEN')}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    return Comments(
        f"{repository}/issues/{request.number}/comments",
        lambda number: f"{repository}/issues/comments/{number}",
        "PATCH",
        65_536,
        headers,
        None,
        lambda text: {"body": text},
        lambda comment: str(comment.get("body") or ""),
    )


def gitlab(request: Request, base: str) -> Comments:
    project = f"{base or request.server + '/api/v4'}/projects/{quote(request.repository, safe='')}"
    notes = f"{project}/merge_requests/{request.number}/notes"
    return Comments(
        notes,
        lambda number: f"{notes}/{number}",
        "PUT",
        1_000_000,
        {"PRIVATE-TOKEN": credential("GITLAB_TOKEN")},
        None,
        lambda text: {"body": text},
        lambda comment: str(comment.get("body") or ""),
    )


def bitbucket(request: Request, base: str) -> Comments:
    repository = f"{base or 'https://api.bitbucket.org/2.0'}/repositories/{request.repository}"
    listed = f"{repository}/pullrequests/{request.number}/comments"
    token = kit.variable("BITBUCKET_TOKEN")
    user, password = kit.variable("BITBUCKET_USERNAME"), kit.variable("BITBUCKET_APP_PASSWORD")
    if not token and not (user and password):
        raise kit.InputError(
            "BITBUCKET_TOKEN, or BITBUCKET_USERNAME and BITBUCKET_APP_PASSWORD, are missing; list them under `secrets:`"
        )
    return Comments(
        listed,
        lambda number: f"{listed}/{number}",
        "PUT",
        32_768,
        {"Authorization": f"Bearer {token}"} if token else {},
        None if token else (user, password),
        lambda text: {"content": {"raw": text}},
        lambda comment: str((comment.get("content") or {}).get("raw") or ""),
    )


def credential(name: str) -> str:
    value = kit.variable(name)
    if not value:
        raise kit.InputError(f"{name} is not set; list it under `secrets:` of the job")
    return value


def write(where: Comments, mode: str, mark: str, body: str) -> None:
    client = kit_http.Http(where.headers, where.auth)
    ending = f"\n\n{mark}"
    content = where.wrap(kit.cut(body.rstrip(), where.limit - len(ending)) + ending)
    old = find(client, where, mark) if mode == "upsert" else ""
    if old:
        client.send(where.method, where.one(old), json=content, repeat=True).expect(
            "the comment was not changed", HINTS
        )
        kit.say(f"changed the comment {old}")
        return
    made = client.send("POST", where.address, json=content).expect("the comment was not written", HINTS).json()
    kit.say(f"wrote the comment {made.get('id', '')}")


def find(client: kit_http.Http, where: Comments, mark: str) -> str:
    """The id of the newest comment with the mark; empty when there is none."""
    with kit_http.answers_from("this provider"):
        rows = listed(client, where)
        found = [int(row["id"]) for row in rows if mark in where.text(row) and not row.get("deleted")]
    return str(max(found)) if found else ""


def listed(client: kit_http.Http, where: Comments) -> Iterator[dict[str, Any]]:
    """All comments; pages are a bare list, or an object with `values`."""
    for page in range(1, MOST_PAGES + 1):
        params = {"per_page": 100, "pagelen": 100, "page": page}
        answer = client.send("GET", where.address, params=params, repeat=True)
        entries = answer.expect("the comments cannot be read", HINTS).json()
        more = isinstance(entries, dict) and "next" in entries
        rows = entries.get("values", []) if isinstance(entries, dict) else entries
        yield from rows
        if not more and (isinstance(entries, dict) or len(rows) < 100):
            return


if __name__ == "__main__":
    kit.main(work)
