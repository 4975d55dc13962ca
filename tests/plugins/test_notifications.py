"""slack, teams, discord, matrix: the requests that these services document, and what their refusals become."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from tests.plugins.conftest import Workspace
from tests.plugins.web import Answer, Request, Web, as_json

PATH = "/services/T000/B000/s3cr3t-of-the-hook"
RUN = {
    "CI_PROJECT_SLUG": "shop",
    "CI_RUN_COUNTER": "41",
    "CI_PIPELINE_STATUS": "failed",
    "CI_BRANCH": "main",
    "CI_COMMIT_SHORT_SHA": "1a2b3c4d",
}
LINE = "shop/ci #41 failed on main (1a2b3c4d)"
Handler = Callable[[Request], Answer]


def slack(request: Request) -> Answer:
    """Slack: a JSON object with `text`, `ok` as the answer."""
    if request.headers["content-type"] != "application/json" or not request.json.get("text"):
        return Answer(400, b"invalid_payload")
    return Answer(200, b"ok")


def discord(request: Request) -> Answer:
    """Discord: with `wait` the message is the answer, without it nothing."""
    if not 0 < len(request.json["content"]) <= 2000:
        return as_json({"content": ["Must be 2000 or fewer in length."]}, 400)
    return as_json({"id": "1", **request.json}) if request.query.get("wait") == ["true"] else Answer(204)


def teams(request: Request) -> Answer:
    """A workflow: a message with one adaptive card as its attachment, accepted with 202."""
    (attachment,) = request.json["attachments"]
    good = request.json["type"] == "message" and attachment["content"]["type"] == "AdaptiveCard"
    kind = attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    return Answer(202) if good and kind and attachment["content"]["body"] else Answer(400)


def matrix(request: Request) -> Answer:
    if request.headers.get("authorization") != "Bearer syt_s3cr3t":
        return as_json({"errcode": "M_UNKNOWN_TOKEN", "error": "Invalid access token"}, 401)
    return as_json({"event_id": "$abc"})


def hook(web: Web, handler: Handler, **more: str) -> dict[str, str]:
    web.handler = handler
    return {"webhook": web.url + PATH, **more}


def test_slack(workspace: Workspace, web: Web) -> None:
    inputs = hook(web, slack, template="*bold*\nline & <x>", channel="#builds")
    assert workspace.good("slack", inputs).out == "slack: the message was posted\n"
    (request,) = web.requests
    assert (request.method, request.path) == ("POST", PATH)
    assert request.json == {"text": "*bold*\nline & <x>", "channel": "#builds"}
    workspace.good("slack", hook(web, slack), **RUN)
    assert web.requests[1].json == {"text": LINE}


def test_a_message_about_a_run_that_tells_little_of_itself(workspace: Workspace, web: Web) -> None:
    workspace.good("slack", hook(web, slack), CI_JOB_NAME="tell", CI_PIPELINE_NAME="")
    assert web.requests[0].json == {"text": "a pipeline job tell"}


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, b"invalid_payload", "status 400; invalid_payload"),
        (404, b"no_service", "no_service; the webhook or its channel is gone"),
        (500, b"", "status 500"),
        (200, b"", ""),
    ],
)
def test_what_slack_refuses(workspace: Workspace, web: Web, status: int, body: bytes, words: str) -> None:
    outcome = workspace.run("slack", hook(web, lambda request: Answer(status, body)))
    assert outcome.code == (0 if status == 200 else 1)
    assert words in outcome.err
    assert "s3cr3t" not in outcome.text
    assert len(web.requests) == 1


def test_discord(workspace: Workspace, web: Web) -> None:
    inputs = hook(web, discord, content="@everyone hello", username="builds", avatar="http://x/y.png", tts="true")
    workspace.good("discord", inputs)
    assert web.requests[0].json == {
        "content": "@everyone hello",
        "tts": True,
        "allowed_mentions": {"parse": []},
        "username": "builds",
        "avatar_url": "http://x/y.png",
    }
    workspace.good("discord", hook(web, discord), **RUN)
    assert web.requests[1].json == {"content": LINE, "tts": False, "allowed_mentions": {"parse": []}}


def test_discord_takes_no_long_messages(workspace: Workspace, web: Web) -> None:
    workspace.good("discord", hook(web, discord, content="x" * 3000))
    assert web.requests[0].json["content"] == "x" * 1998 + " …"


def test_discord_asks_for_patience_in_fractions(workspace: Workspace, web: Web) -> None:
    web.answers = [Answer(429, b'{"retry_after": 0.01}', {"Retry-After": "0.01"})]
    workspace.good("discord", hook(web, discord, content="x"))
    assert len(web.requests) == 2


def test_teams(workspace: Workspace, web: Web) -> None:
    workspace.good("teams", hook(web, teams, title="Deployed", message="**all** of it", **{"theme-color": "#2EB886"}))
    (attachment,) = web.requests[0].json["attachments"]
    title, message = attachment["content"]["body"]
    assert (title["text"], title["color"], message["text"]) == ("Deployed", "good", "**all** of it")
    workspace.good("teams", hook(web, teams), **RUN)
    assert [part["text"] for part in web.requests[1].json["attachments"][0]["content"]["body"]] == [LINE]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("D00000", "attention"),
        ("ffcc00", "warning"),
        ("0076D7", "accent"),
        ("888888", "default"),
        ("Warning", "warning"),
    ],
)
def test_teams_knows_names_of_colours(workspace: Workspace, web: Web, given: str, named: str) -> None:
    workspace.good("teams", hook(web, teams, title="x", **{"theme-color": given}))
    assert web.requests[0].json["attachments"][0]["content"]["body"][0]["color"] == named


def test_teams_posts_a_file_as_it_is(workspace: Workspace, web: Web) -> None:
    payload = {"type": "message", "attachments": []}
    (workspace.path / "card.json").write_text(json.dumps(payload))
    workspace.good("teams", hook(web, lambda request: Answer(200, b"1"), **{"payload-file": "card.json"}))
    assert web.requests[0].json == payload


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"theme-color": "blue"}, "`theme-color` is 'blue'"),
        ({"payload-file": "nothing.json"}, "`payload-file` is 'nothing.json': No such file"),
        ({"payload-file": "."}, "Is a directory"),
        ({"payload-file": "bad.json"}, "`payload-file` is not JSON"),
        ({"message": "x" * 30_000}, "shorten `message`"),
    ],
)
def test_wrong_inputs_of_teams(workspace: Workspace, web: Web, inputs: dict[str, str], words: str) -> None:
    (workspace.path / "bad.json").write_text("{")
    outcome = workspace.run("teams", hook(web, teams, **inputs))
    assert outcome.code == 2
    assert words in outcome.err
    assert web.requests == []


def test_an_old_connector_of_teams_says_no_with_200(workspace: Workspace, web: Web) -> None:
    words = b"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 413"
    outcome = workspace.run("teams", hook(web, lambda request: Answer(200, words)))
    assert outcome.code == 1
    assert "HTTP error 413" in outcome.err


def room(web: Web, **more: str) -> dict[str, str]:
    web.handler = matrix
    return {"homeserver": web.url + "/", "token": "syt_s3cr3t", "room-id": "!a/b:example.org", **more}


def test_matrix(workspace: Workspace, web: Web) -> None:
    outcome = workspace.good("matrix", room(web, body="plain", html="<b>rich</b>", msgtype="m.notice"))
    assert outcome.out == "matrix: the message was posted as $abc\n"
    (request,) = web.requests
    assert request.method == "PUT"
    address = r"/_matrix/client/v3/rooms/%21a%2Fb%3Aexample.org/send/m\.room\.message/[0-9a-f-]{36}"
    assert re.fullmatch(address, request.path)
    assert request.json == {
        "msgtype": "m.notice",
        "body": "plain",
        "format": "org.matrix.custom.html",
        "formatted_body": "<b>rich</b>",
    }
    workspace.good("matrix", room(web), **RUN)
    assert web.requests[1].json == {"msgtype": "m.text", "body": LINE}


def test_matrix_sends_one_message_however_often_it_asks(workspace: Workspace, web: Web) -> None:
    web.answers = [as_json({"errcode": "M_LIMIT_EXCEEDED"}, 429, **{"Retry-After": "0"}), Answer(200, b"{", cut=True)]
    workspace.good("matrix", room(web, body="x"))
    assert len(web.requests) == 3
    assert len({request.path for request in web.requests}) == 1


def test_matrix_with_a_wrong_token(workspace: Workspace, web: Web) -> None:
    outcome = workspace.run("matrix", room(web, token="syt_wrong"))
    assert outcome.code == 1
    assert "Invalid access token" in outcome.err
    assert "syt_wrong" not in outcome.text


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"room-id": "#alias:example.org"}, "not its alias"),
        ({"homeserver": "matrix.example.org"}, "`homeserver` must be an address that begins with https://"),
        ({"homeserver": ""}, "the input `homeserver` is missing"),
        ({"msgtype": "m.image"}, "write m.text or m.notice"),
        ({"body": "x" * 70_000}, "shorten it"),
    ],
)
def test_wrong_inputs_of_matrix(workspace: Workspace, web: Web, inputs: dict[str, str], words: str) -> None:
    outcome = workspace.run("matrix", room(web, **inputs))
    assert outcome.code == 2
    assert words in outcome.err


# What holds for every plugin that speaks HTTP


@pytest.mark.parametrize("name", ["slack", "teams", "discord"])
@pytest.mark.parametrize("value", ["", "not-an-address", "ftp://example.org/s3cr3t", "file:///etc/passwd"])
def test_a_webhook_that_is_none_is_not_shown(workspace: Workspace, name: str, value: str) -> None:
    outcome = workspace.run(name, {"webhook": value})
    assert outcome.code == 2
    assert outcome.err.startswith(f"{name}: error: ")
    assert "`webhook`" in outcome.err
    assert not value or value not in outcome.text


def test_a_server_that_is_busy_is_asked_again_but_not_for_ever(workspace: Workspace, web: Web) -> None:
    outcome = workspace.run("slack", hook(web, lambda request: Answer(503, b"busy", {"Retry-After": "0"})))
    assert outcome.code == 1
    assert "status 503; busy" in outcome.err
    assert len(web.requests) == 4
    web.answers = [Answer(502, b"", {"Retry-After": "0"})] * 3
    workspace.good("slack", hook(web, slack))


def test_nobody_there(workspace: Workspace, web: Web) -> None:
    outcome = workspace.run("slack", {"webhook": "http://127.0.0.1:1/s3cr3t"})
    assert outcome.code == 1
    assert "POST http://127.0.0.1:1: " in outcome.err
    assert "s3cr3t" not in outcome.text


def test_a_message_is_not_sent_twice_when_the_answer_breaks(workspace: Workspace, web: Web) -> None:
    outcome = workspace.run("slack", hook(web, lambda request: Answer(200, b"o", cut=True)))
    assert outcome.code == 1
    assert len(web.requests) == 1


def test_a_redirect_is_not_followed(workspace: Workspace, web: Web) -> None:
    target = f"{web.url}/elsewhere/with-a-t0ken"
    outcome = workspace.run("slack", hook(web, lambda request: Answer(302, b"", {"Location": target})))
    assert outcome.code == 1
    assert f"it redirects to {web.url}; give the final address" in outcome.err
    assert "t0ken" not in outcome.text
    assert len(web.requests) == 1


def test_an_endless_answer(workspace: Workspace, web: Web) -> None:
    outcome = workspace.run("slack", hook(web, lambda request: Answer(200, b"x" * (9 * 1024 * 1024))))
    assert outcome.code == 1
    assert "the answer is over 8 MiB" in outcome.err


def test_what_a_server_says_is_cut_and_masked(workspace: Workspace, web: Web) -> None:
    def echo(request: Request) -> Answer:
        return Answer(400, f"bad {web.url}{PATH}\n{'y' * 5000}".encode())

    outcome = workspace.run("slack", hook(web, echo))
    assert "bad ***" in outcome.err
    assert len(outcome.err) < 1000
    assert outcome.err.count("\n") == 1


def test_its_own_proxy_variables_are_the_jobs(workspace: Workspace, web: Web) -> None:
    web.handler = slack
    workspace.good("slack", {"webhook": "http://hooks.example.invalid/x", "template": "y"}, HTTP_PROXY=web.url)
    assert web.requests[0].headers["host"] == "hooks.example.invalid"
