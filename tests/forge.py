"""GitHub, GitLab and Bitbucket in the shapes of their published API documentation, as far as the server calls them.

It refuses what they refuse: wrong tokens, JWTs that are not signed by the App, fields that are missing. `trouble` is answered
instead, once each.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from tests.counterpart import Asked, Told, as_json

TOKEN = "glpat-0123456789abcdef"
APP_ID, INSTALLATION = 4711, 815
SHA = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"


@functools.cache
def pem() -> str:
    """A private key as GitHub gives it."""
    key = rsa.generate_private_key(65537, 2048)
    kind = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()).decode()


class Forge:
    """One repository, `acme/shop`, at all three of them."""

    def __init__(self) -> None:
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.hooks: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.installed = True
        self.tokens: list[str] = []
        self.trouble: list[Told] = []
        self.lose_answers = 0
        """Answers to changes that are done and never arrive."""
        self.calls: list[str] = []

    def __call__(self, asked: Asked) -> Told:
        self.calls.append(f"{asked.method} {asked.path}")
        if self.trouble:
            return self.trouble.pop(0)
        if not self._may(asked):
            return as_json({"message": "Bad credentials"}, 401)
        path = re.sub(r"^/(api/v3|api/v4|2\.0)", "", asked.path)
        told = self._answer(asked, path)
        if self.lose_answers and asked.method != "GET":
            self.lose_answers -= 1
            return Told(raw=b"")
        return told

    def _may(self, asked: Asked) -> bool:
        bearer = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if asked.path.startswith("/api/v4"):
            return asked.headers.get("private-token") == TOKEN
        if asked.path.endswith(("/installation", "/access_tokens")):
            return self._is_app(bearer)
        return bearer == TOKEN or bearer in self.tokens

    def _is_app(self, word: str) -> bool:
        try:
            claims = jwt.decode(word, RSAKey.import_key(pem()), algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            return False
        now = self.now().timestamp()
        return bool(claims["iss"] == str(APP_ID) and claims["iat"] <= now < claims["exp"] <= now + 600)

    def _answer(self, asked: Asked, path: str) -> Told:
        if path.endswith("/access_tokens"):
            self.tokens.append(f"ghs_{len(self.tokens)}")
            expires = (self.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
            return as_json({"token": self.tokens[-1], "expires_at": expires}, 201)
        for repository in (
            "/repos/acme/shop",
            "/projects/acme%2Fshop",
            "/projects/acme/shop",
            "/repositories/acme/shop",
        ):
            if path.startswith(f"{repository}/"):
                return self._of_repository(asked, unquote(path.removeprefix(repository)))
        return as_json({"message": "Not Found"}, 404)

    def _of_repository(self, asked: Asked, path: str) -> Told:
        if path == "/installation":
            return as_json({"id": INSTALLATION}) if self.installed else as_json({"message": "Not Found"}, 404)
        if path.startswith("/hooks"):
            return self._hook(asked, path.removeprefix("/hooks").lstrip("/"))
        if path.startswith(("/check-runs", f"/commits/{SHA}/check-runs")):
            return self._check(asked, path)
        if path in (f"/statuses/{SHA}", f"/commit/{SHA}/statuses/build"):
            self.statuses.append(asked.json)
            return as_json({"id": len(self.statuses)}, 201)
        return as_json({"message": "Not Found"}, 404)

    def _hook(self, asked: Asked, hook: str) -> Told:
        if asked.method == "GET":
            size = int((asked.query.get("per_page") or asked.query["pagelen"])[0])
            page = self.hooks[size * (int(asked.query["page"][0]) - 1) :][:size]
            return as_json({"values": page} if asked.path.startswith("/2.0") else page)
        if hook:
            known = next((one for one in self.hooks if hook in (str(one.get("id")), one.get("uuid"))), None)
            if known is None:
                return as_json({"message": "Not Found"}, 404)
            known |= asked.json
            return as_json(known)
        made = asked.json | ({"uuid": "{b7a0c6e2-0000}"} if asked.path.startswith("/2.0") else {"id": 812})
        self.hooks.append(made)
        return as_json(made, 201)

    def _check(self, asked: Asked, path: str) -> Told:
        if asked.method == "GET":
            return as_json({"total_count": len(self.checks), "check_runs": self.checks})
        if asked.method == "POST":
            self.checks.append(asked.json | {"id": 1000 + len(self.checks)})
            return as_json(self.checks[-1], 201)
        found = next((check for check in self.checks if path.endswith(f"/{check['id']}")), None)
        if found is None:
            return as_json({"message": "Not Found"}, 404)
        found |= asked.json
        return as_json(found)
