"""The page of the API's document: complete, searched on the server, and nothing in it that a strict policy would refuse."""

from __future__ import annotations

from html.parser import HTMLParser

from gocdnext.auth import roles
from tests.api.world import World

EMPTY = frozenset({"meta", "link", "br", "input"})


class Page(HTMLParser):
    """What a page links to, and what can be linked to; that its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.shown: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in EMPTY:
            self.open.append(tag)
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


async def test_the_page_is_whole_and_asks_nobody_else(guarded: World) -> None:
    answer = await guarded.http.get("/api/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self';")
    page = Page(answer.text)
    assert page.tags.count("article") > len(roles.MINIMUM)
    shown = " ".join("".join(page.shown).split())
    for place in roles.MINIMUM:
        method, _, path = place.partition(" ")
        assert f"{method} {path.replace('<', '{').replace('>', '}')} " in shown
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not [link for link in page.links if not link.startswith(("#", "/api/"))]
    assert not {"script", "style", "img", "iframe"} & set(page.tags)
    assert not [name for name in page.attributes if name == "style" or name.startswith("on")]
    for link in {link for link in page.links if link.startswith("/")}:
        assert (await guarded.http.get(link)).status_code == 200
    style = await guarded.http.get("/api/docs/style.css")
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    assert "prefers-color-scheme: dark" in style.text
    assert "url(" not in style.text


async def test_a_search_shows_what_has_every_word(guarded: World) -> None:
    found = Page((await guarded.http.get("/api/docs", params={"q": "Approve  job_runs"})).text)
    assert "job_runs.approve" in found.ids
    assert "runs.list_runs" not in found.ids
    messages = Page((await guarded.http.get("/api/docs?q=cancel_requested_at")).text)
    assert [one for one in messages.ids if one.startswith("message-")] == ["message-JobDetail"]
    nothing = await guarded.http.get("/api/docs", params={"q": '"><script>alert(1)</script>'})
    assert "script" not in Page(nothing.text).tags
    assert "Nothing has" in nothing.text
    assert len((await guarded.http.get("/api/docs", params={"q": "x" * 5000})).text) < 5000
