"""Takes secrets out of text that leaves the house: those that are known by value, and what looks like one.

Rather too much than too little: a struck-out word in a bug report costs a question, a token costs an installation.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gocdnext.agent.config import TABLE
from gocdnext.config import VARIABLES

STRUCK = "(struck out)"
SHORTEST = 4
"""Characters: shorter values would strike out half the text, and are no secrets."""
PRIVATE_NAME = re.compile(
    r"(?i)passw|pass$|pwd|secret|token|credential|private|signature|api_?key|sign_?key|access_?key|_key$|^key$|cookie"
    r"|authorization|session|setup.?code|passphrase|dsn"
)
"""Names of variables and of fields whose values are not shown."""
_SECRET_KINDS = {each.name for each in VARIABLES if each.kind == "secret"} | {
    each.name for each in TABLE if each.name.endswith("_TOKEN")
}
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|$)", re.DOTALL), STRUCK),
    (re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^/?#\s\"'<>]*@"), rf"\1{STRUCK}@"),
    (re.compile(r"([?&#][\w.\-\[\]]{1,64}=)[^&\s\"'<>]+"), rf"\1{STRUCK}"),
    (re.compile(r"(?i)\b(bearer|basic|digest|negotiate)(\s+)[\w.~+/=:-]+"), rf"\1\2{STRUCK}"),
    (
        re.compile(
            r"(?i)([\w.-]*(?:passw|pwd|secret|token|credential|api[_-]?key|private[_-]?key|passphrase|cookie|authorization)"
            r"[\w.-]*[\"']?\s*(?:[:=]|\bis\b)\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&}\])]+)"
        ),
        rf"\1{STRUCK}",
    ),
    (re.compile(r"\b(?:gh[a-z]_|github_pat_|glpat-|xox[a-z]-|AKIA|ASIA|gn[a-z]_)[\w-]{8,}"), STRUCK),
    (
        re.compile(r"(?<![\w/.+-])(?=[\w+/-]*[A-Z])(?=[\w+/-]*[a-z])(?=[\w+/-]*[0-9])[A-Za-z0-9][\w+/-]{23,}={0,2}"),
        STRUCK,
    ),
)
_WORD = re.compile(r"[\w+=-]{20,}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Scrubber:
    """Strikes out. `known` are secrets by value, in every spelling that they may turn up in."""

    def __init__(self, known: Iterable[str]) -> None:
        # The longest first: one may hold another.
        values = sorted({value for value in known if len(value) >= SHORTEST}, key=lambda value: (-len(value), value))
        self._known = re.compile("|".join(map(re.escape, values))) if values else None

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._known is not None:
            text = self._known.sub(STRUCK, text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return _WORD.sub(_struck_if_random, text)

    def document(self, value: object, name: str = "") -> object:
        """A JSON value without secrets, whether they stand under their name or in a text."""
        if isinstance(value, dict):
            return {self.text(str(key)): self.document(each, str(key)) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.document(each, name) for each in value]
        if isinstance(value, bool | int | float | None):
            return value
        return STRUCK if value and PRIVATE_NAME.search(name) else self.text(str(value))


def _struck_if_random(match: re.Match[str]) -> str:
    """A long word of letters and digits is a key or a token, unless it is one of our ids."""
    word = match[0]
    random = any(map(str.isdigit, word)) and any(map(str.isalpha, word)) and not _UUID.fullmatch(word)
    return STRUCK if random else word


def secrets_of(environ: Mapping[str, str]) -> Iterator[str]:
    """Every value of an environment that is secret by its name or its kind, and every password in a url."""
    for name, value in environ.items():
        if name in _SECRET_KINDS or PRIVATE_NAME.search(name):
            yield from _spellings(value)
        if "://" in value:
            yield from passwords_in(value)


def secrets_in_files(state: Path) -> Iterator[str]:
    """The keys of a state directory, as far as they may be read, in the spellings that are in use."""
    for path in sorted(state.glob("*.key")):
        try:
            content = path.read_bytes()[:4096]
        except OSError:
            continue
        yield content.hex()
        yield from (
            base64.b64encode(content).decode().rstrip("="),
            base64.urlsafe_b64encode(content).decode().rstrip("="),
        )
        yield from _spellings(content.decode("utf-8", "replace"))


def passwords_in(text: str) -> Iterator[str]:
    """User and password of each url in a text, as written and decoded."""
    for word in text.split():
        try:
            parts = urlsplit(word)
        except ValueError:
            continue
        if "@" in parts.netloc and parts.password:
            yield from (parts.password, unquote(parts.password))
        elif "@" in parts.netloc and parts.username and len(parts.username) >= 12:
            yield from (parts.username, unquote(parts.username))  # a token alone


def _spellings(value: str) -> Iterator[str]:
    """A value, its lines and its parts between commas: keys come in lists, PEM in lines."""
    yield value.strip()
    for line in value.replace("\\n", "\n").splitlines():
        if not line.startswith("-----"):
            yield line.strip()
            yield from (part.strip() for part in line.split(","))
