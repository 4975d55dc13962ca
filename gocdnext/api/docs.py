"""`/api/docs`: the document of this API as a page to read and to search.

It is made here from the document, for a browser that runs no script and asks nobody else for anything.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Any, cast

import msgspec
from markupsafe import Markup, escape
from msgspec import Meta
from quart import Blueprint, Response, current_app, render_template

from gocdnext.api import description, query
from gocdnext.api.respond import text
from gocdnext.api.routing import Description, route

blueprint = Blueprint("docs", __name__, template_folder="pages")

HTML = "text/html; charset=utf-8"
CSS = "text/css; charset=utf-8"
POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
MAX_SEARCH = 200
"""Characters of a search that are looked at."""
MESSAGES = ""
"""The group of the messages; the others are tags."""
_EXTENSION = "gocdnext.docs"

Schema = dict[str, Any]
_CODE = re.compile(r"`([^`]+)`")


class PageQuery(msgspec.Struct):
    q: Annotated[str, Meta(description="Words that are all to be in what is shown.", max_length=MAX_SEARCH)] = ""


@dataclass(frozen=True, slots=True)
class Article:
    """One operation or message as it is shown, and the text in which a search looks for words."""

    group: str
    text: str
    html: Markup


@route(blueprint, "GET", "/api/docs", described=Description(asks=PageQuery, gives=str, media=HTML))
async def page() -> Response:
    """The document of this API as a page, whole or what a search finds."""
    document = (await description.made()).value
    wanted = query.asked(PageQuery).q[:MAX_SEARCH]
    words = wanted.lower().split()
    found = defaultdict[str, list[Markup]](list)
    for article in await _articles(document):
        if all(word in article.text for word in words):
            found[article.group].append(article.html)
    body = await render_template(
        "docs.html",
        info=document["info"],
        groups=[{**tag, "articles": found[tag["name"]]} for tag in document["tags"] if tag["name"] in found],
        messages=found[MESSAGES],
        q=wanted,
    )
    response = text(body, content_type=HTML)
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@route(blueprint, "GET", "/api/docs/style.css", described=Description(gives=str, media=CSS))
async def style() -> Response:
    """What the page looks like."""
    response = text(_style(), content_type=CSS)
    response.headers["Cache-Control"] = description.CACHED
    return response


@cache
def _style() -> str:
    return resources.files(__package__).joinpath("pages", "docs.css").read_text()


async def _articles(document: Schema) -> list[Article]:
    """Everything that the page can show. It is rendered once: that takes a tenth of a second, a search then next to none."""
    extensions = current_app.extensions
    if _EXTENSION not in extensions:
        made = [
            await _operation(document, method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        made += [await _message(name, schema) for name, schema in document["components"]["schemas"].items()]
        extensions[_EXTENSION] = made
    return cast("list[Article]", extensions[_EXTENSION])


async def _operation(document: Schema, method: str, path: str, operation: Schema) -> Article:
    components, answers, refusals = document["components"], list[Schema](), list[Schema]()
    for status, answer in operation["responses"].items():
        shown = components["responses"][answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
        (refusals if status >= "400" else answers).append({"status": status, **shown})
    (tag,) = operation["tags"]
    html = await render_template(
        "docs_operation.html",
        operation={**operation, "method": method, "path": path, "answers": answers, "refusals": refusals},
        headers=components["headers"],
    )
    return Article(
        tag, _searched(tag, method, path, operation["summary"], operation.get("description", "")), Markup(html)
    )


async def _message(name: str, schema: Schema) -> Article:
    html = await render_template("docs_message.html", message={"name": name, **schema})
    return Article(
        MESSAGES, _searched(name, schema.get("description", ""), *schema.get("properties", ())), Markup(html)
    )


def _searched(*texts: str) -> str:
    return " ".join(texts).lower()


@blueprint.app_template_filter("prose")
def prose(plain: str) -> Markup:
    """Text with its backquoted words as code, and each line that begins with a dash as an entry of a list."""
    blocks = []
    for block in plain.strip().split("\n\n"):
        entries = re.split(r"(?:^|\n)- ", block)
        if len(entries) > 1:
            listed = Markup("").join(Markup("<li>{}</li>").format(_coded(entry)) for entry in entries[1:])
            blocks.append(Markup("<ul>{}</ul>").format(listed))
        else:
            blocks.append(Markup("<p>{}</p>").format(_coded(block)))
    return Markup("").join(blocks)


@blueprint.app_template_filter("coded")
def _coded(plain: str) -> Markup:
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(plain))))
