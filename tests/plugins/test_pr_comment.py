"""pr-comment: a comment list as GitHub, GitLab and Bitbucket keep it, each with its documented requests."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from tests.plugins.conftest import Workspace
from tests.plugins.web import Answer, Request, Web, as_json

TOKEN = "t0ken-of-the-forge"
MARK = "gocdnext: shop/ci/report"


class Forge:
    """A list of comments behind an address. The subclasses know how each provider names and shapes things."""

    listed = ""
    single = ""
    change = ""
    url = ""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.comments: dict[int, str] = {}
        web.handler = self.handle

    def allowed(self, request: Request) -> bool:
        raise NotImplementedError

    def text(self, body: Any) -> str:
        return str(body["body"])

    def shape(self, number: int) -> dict[str, Any]:
        return {"id": number, "body": self.comments[number]}

    def handle(self, request: Request) -> Answer:
        if not self.allowed(request):
            return as_json({"message": "Bad credentials"}, 401)
        if request.method == "GET" and request.path == self.listed:
            return self.page(request)
        if request.method == "POST" and request.path == self.listed:
            number = max(self.comments, default=100) + 1
            self.comments[number] = self.text(request.json)
            return as_json(self.shape(number), 201)
        prefix, _, number_text = request.path.rpartition("/")
        if request.method == self.change and prefix == self.single and int(number_text) in self.comments:
            self.comments[int(number_text)] = self.text(request.json)
            return as_json(self.shape(int(number_text)))
        return as_json({"message": "Not Found"}, 404)

    def page(self, request: Request) -> Answer:
        numbers = sorted(self.comments)
        page, size = int(request.query["page"][0]), int(request.query["per_page"][0])
        return as_json([self.shape(number) for number in numbers[(page - 1) * size : page * size]])


class GitHub(Forge):
    listed = "/repos/acme/shop/issues/12/comments"
    single = "/repos/acme/shop/issues/comments"
    change = "PATCH"
    url = "https://github.com/acme/shop/pull/12"

    def allowed(self, request: Request) -> bool:
        assert request.headers["accept"] == "application/vnd.github+json"
        return request.headers.get("authorization") == f"Bearer {TOKEN}"


class GitLab(Forge):
    listed = "/projects/acme%2Fsub%2Fshop/merge_requests/12/notes"
    single = listed
    change = "PUT"
    url = "https://gitlab.example.org/acme/sub/shop/-/merge_requests/12"

    def allowed(self, request: Request) -> bool:
        return request.headers.get("private-token") == TOKEN


class Bitbucket(Forge):
    listed = "/repositories/acme/shop/pullrequests/12/comments"
    single = listed
    change = "PUT"
    url = "https://bitbucket.org/acme/shop/pull-requests/12"

    def allowed(self, request: Request) -> bool:
        basic = "Basic " + b64encode(f"ci:{TOKEN}".encode()).decode()
        return request.headers.get("authorization") in (f"Bearer {TOKEN}", basic)

    def text(self, body: Any) -> str:
        return str(body["content"]["raw"])

    def shape(self, number: int) -> dict[str, Any]:
        return {"id": number, "deleted": False, "content": {"raw": self.comments[number]}}

    def page(self, request: Request) -> Answer:
        numbers = sorted(self.comments)
        page, size = int(request.query["page"][0]), min(int(request.query["pagelen"][0]), 10)
        values = [self.shape(number) for number in numbers[(page - 1) * size : page * size]]
        more = {"next": f"{self.web.url}{self.listed}?page={page + 1}"} if page * size < len(numbers) else {}
        return as_json({"values": values, "pagelen": size, **more})


FORGES = (GitHub, GitLab, Bitbucket)
VARIABLES = {GitHub: "GITHUB_TOKEN", GitLab: "GITLAB_TOKEN", Bitbucket: "BITBUCKET_TOKEN"}


@pytest.fixture(params=FORGES, ids=lambda kind: kind.__name__)
def forge(request: pytest.FixtureRequest, web: Web, workspace: Workspace) -> Forge:
    kind: type[Forge] = request.param
    workspace.env |= job(kind) | {VARIABLES[kind]: TOKEN}
    return kind(web)


def job(kind: type[Forge]) -> dict[str, str]:
    return {
        "CI_PULL_REQUEST_KEY": "12",
        "CI_PULL_REQUEST_URL": kind.url,
        "CI_PROJECT_SLUG": "shop",
        "CI_JOB_NAME": "report",
    }


def test_the_first_comment_and_its_update(workspace: Workspace, web: Web, forge: Forge) -> None:
    forge.comments = {number: f"somebody's {number}" for number in range(1, 6)}
    outcome = workspace.good("pr-comment", {"body": "# One\n\n- a", "api-base": web.url})
    assert outcome.out == "pr-comment: wrote the comment 6\n"
    assert forge.comments[6].startswith("# One\n\n- a\n\n")
    assert MARK in forge.comments[6].splitlines()[-1]
    forge.comments[7] = "an answer"
    (workspace.path / "report.md").write_text("# Two\n")
    outcome = workspace.good("pr-comment", {"body-file": "report.md", "api-base": web.url})
    assert outcome.out == "pr-comment: changed the comment 6\n"
    assert forge.comments[6].startswith("# Two\n\n")
    assert len(forge.comments) == 7
    assert TOKEN not in outcome.text


def test_a_new_one_each_time_and_other_markers(workspace: Workspace, web: Web, forge: Forge) -> None:
    for _ in range(2):
        workspace.good("pr-comment", {"body": "x", "api-base": web.url, "mode": "create"})
    workspace.good("pr-comment", {"body": "y", "api-base": web.url, "marker": "other -->x"})
    assert [text.splitlines()[0] for text in forge.comments.values()] == ["x", "x", "y"]
    assert "gocdnext: other---" in list(forge.comments.values())[2]


def test_the_comment_is_found_on_a_later_page(workspace: Workspace, web: Web, forge: Forge) -> None:
    forge.comments = dict.fromkeys(range(1, 251), "x")
    workspace.good("pr-comment", {"body": "one", "api-base": web.url})
    forge.comments |= dict.fromkeys(range(300, 320), "x")
    workspace.good("pr-comment", {"body": "two", "api-base": web.url})
    assert forge.comments[251].startswith("two")


def test_a_refused_token(workspace: Workspace, web: Web, forge: Forge) -> None:
    wrong = {VARIABLES[type(forge)]: "wr0ng-token"}
    outcome = workspace.run("pr-comment", {"body": "x", "api-base": web.url}, **wrong)
    assert outcome.code == 1
    assert "the token is not valid" in outcome.err
    assert "wr0ng" not in outcome.text


def test_bitbucket_takes_a_name_and_a_password_too(workspace: Workspace, web: Web) -> None:
    forge = Bitbucket(web)
    inputs = {"body": "x", "api-base": web.url}
    outcome = workspace.run("pr-comment", inputs, **job(Bitbucket), BITBUCKET_USERNAME="ci")
    assert outcome.code == 2
    assert "BITBUCKET_APP_PASSWORD, are missing" in outcome.err
    workspace.good("pr-comment", inputs, **job(Bitbucket), BITBUCKET_USERNAME="ci", BITBUCKET_APP_PASSWORD=TOKEN)
    assert len(forge.comments) == 1


def test_a_long_comment_is_cut_and_still_found(workspace: Workspace, web: Web) -> None:
    forge = GitHub(web)
    (workspace.path / "long.md").write_text("y" * 100_000)
    for _ in range(2):
        workspace.good("pr-comment", {"body-file": "long.md", "api-base": web.url}, **job(GitHub), GITHUB_TOKEN=TOKEN)
    (text,) = forge.comments.values()
    assert len(text) <= 65_536
    assert text.endswith(f"<!-- {MARK} -->")


def test_a_run_without_a_request_does_nothing(workspace: Workspace, web: Web) -> None:
    outcome = workspace.good("pr-comment", {"body": "x", "api-base": web.url})
    assert "nothing to do" in outcome.out
    assert web.requests == []


def test_a_dry_run_shows_and_asks_nobody(workspace: Workspace, web: Web) -> None:
    outcome = workspace.good("pr-comment", {"body": "# One", "dry-run": "true", "api-base": web.url}, **job(GitLab))
    assert outcome.out == "pr-comment: would write to gitlab acme/sub/shop 12 (upsert):\n# One\n"
    assert web.requests == []


@pytest.mark.parametrize(
    ("inputs", "env", "code", "words"),
    [
        ({}, {}, 2, "`body` is empty"),
        ({"body-file": "nothing"}, {}, 2, "`body-file` is 'nothing': No such file"),
        ({"body": "x", "mode": "replace"}, {}, 2, "write upsert or create"),
        ({"body": "x", "provider": "gitea"}, {}, 2, "write auto or github"),
        ({"body": "x", "api-base": "api"}, {}, 2, "`api-base` must be an address"),
        ({"body": "x"}, {}, 2, "GITHUB_TOKEN is not set; list it under `secrets:`"),
        ({"body": "x"}, {"CI_PULL_REQUEST_URL": ""}, 1, "which is no address of a pull or merge request"),
    ],
)
def test_wrong_inputs(workspace: Workspace, inputs: dict[str, str], env: dict[str, str], code: int, words: str) -> None:
    outcome = workspace.run("pr-comment", inputs, **{**job(GitHub), **env})
    assert outcome.code == code
    assert words in outcome.err
