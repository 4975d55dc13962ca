"""Providers of identities that do whatever a test wants: an OpenID provider, and GitHub as its documentation shows it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import RSAKey
from joserfc.jws import JWSRegistry

from tests.api.world import World, served
from tests.counterpart import Asked, Counterpart, Told, as_json, counterpart

KEY = RSAKey.generate_key(2048, {"kid": "first", "use": "sig", "alg": "RS256"})
SECRET = "the secret of the client:/ &"
PUBLIC = "https://ci.acme.example"
ON = {"GOCDNEXT_AUTH_ENABLED": "true", "GOCDNEXT_OUTBOUND_ALLOW": "127.0.0.1", "GOCDNEXT_PUBLIC_BASE": PUBLIC}


@dataclass
class OpenId:
    """An OpenID provider. `claims` are what it says of whoever signs in next; None leaves one out."""

    there: Counterpart
    clock: Callable[[], float]
    claims: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: KEY)
    published: list[RSAKey] = field(default_factory=lambda: [KEY])
    nonces: dict[str, str] = field(default_factory=dict)
    """Of the sign-in that each code belongs to."""
    token: Callable[[dict[str, Any]], str] | None = None
    """Makes the ID token from its claims, where a test wants another."""
    down: set[str] = field(default_factory=set)
    """Paths that are not there."""

    def __post_init__(self) -> None:
        self.there.handler = self._handle

    @property
    def issuer(self) -> str:
        return self.there.url

    def environment(self, name: str = "oidc", client: str = "gocd") -> dict[str, str]:
        prefix = f"GOCDNEXT_AUTH_{name.upper()}"
        return {
            f"{prefix}_CLIENT_ID": client,
            f"{prefix}_CLIENT_SECRET": SECRET,
            f"{prefix}_ISSUER": self.issuer,
        }

    def asked(self, path: str) -> list[Asked]:
        return [each for each in self.there.requests if each.path == path]

    def code_for(self, location: str, code: str = "the-code") -> str:
        """What the provider does with the browser: it lets the person in and makes a code for the sign-in."""
        query = parse_qs(urlsplit(location).query)
        self.nonces[code] = query["nonce"][0]
        return query["state"][0]

    def _handle(self, asked: Asked) -> Told:
        if asked.path in self.down:
            return Told(404)
        if asked.path == "/.well-known/openid-configuration":
            return as_json(self._metadata())
        if asked.path == "/keys":
            return as_json({"keys": [key.as_dict(private=False) for key in self.published]})
        if asked.path == "/token":
            code = parse_qs(asked.body.decode())["code"][0]
            if code not in self.nonces:
                return as_json({"error": "invalid_grant"}, 400)
            return as_json(
                {
                    "access_token": "an-access-token",
                    "token_type": "Bearer",
                    "id_token": self._id_token(self.nonces[code]),
                }
            )
        if asked.path == "/userinfo":
            return as_json(self.userinfo)
        return Told(404)

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            **self.metadata,
        }

    def _id_token(self, nonce: str) -> str:
        now = int(self.clock())
        said = {
            "iss": self.issuer,
            "aud": "gocd",
            "sub": "00u1",
            "email": "rita@acme.example",
            "email_verified": True,
            "name": "Rita Moss",
            "nonce": nonce,
            "iat": now,
            "exp": now + 300,
            **self.claims,
        }
        claims = {name: value for name, value in said.items() if value is not None}
        if self.token is not None:
            return self.token(claims)
        return jwt.encode(
            {"alg": "RS256", "kid": self.key.kid}, claims, self.key, registry=JWSRegistry(strict_check_header=False)
        )


@dataclass
class GitHub:
    """GitHub: its token endpoint and the two answers of its API, with the fields and the habits of the real ones."""

    there: Counterpart
    user: dict[str, Any] = field(
        default_factory=lambda: {
            "login": "rmoss",
            "id": 583231,
            "node_id": "MDQ6VXNlcjU4MzIzMQ==",
            "avatar_url": "https://avatars.githubusercontent.com/u/583231?v=4",
            "name": "Rita Moss",
            "email": None,
            "type": "User",
        }
    )
    emails: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {"email": "old@acme.example", "primary": False, "verified": True, "visibility": None},
            {"email": "rita@acme.example", "primary": True, "verified": True, "visibility": "private"},
        ]
    )

    def __post_init__(self) -> None:
        self.there.handler = self._handle

    def environment(self) -> dict[str, str]:
        return {
            "GOCDNEXT_AUTH_GITHUB_CLIENT_ID": "Iv1.8a61f9b3a7aba766",
            "GOCDNEXT_AUTH_GITHUB_CLIENT_SECRET": SECRET,
            "GOCDNEXT_AUTH_GITHUB_API_BASE": f"{self.there.url}/api/v3",
        }

    def _handle(self, asked: Asked) -> Told:
        if asked.path == "/login/oauth/access_token":
            form = parse_qs(asked.body.decode())
            if form["client_secret"] != [SECRET] or form["code"] != ["the-code"]:
                # With 200, as the real one.
                return as_json({"error": "bad_verification_code", "error_description": "The code passed is incorrect."})
            return as_json(
                {"access_token": "gho_16C7e42F292c6912E7", "scope": "read:user,user:email", "token_type": "bearer"}
            )
        if asked.headers.get("authorization") != "Bearer gho_16C7e42F292c6912E7":
            return as_json({"message": "Bad credentials"}, 401)
        if asked.path == "/api/v3/user":
            return as_json(self.user)
        if asked.path == "/api/v3/user/emails":
            return as_json(self.emails)
        return as_json({"message": "Not Found"}, 404)


@dataclass
class Browser:
    """One browser: its cookies, and no redirect followed by itself."""

    world: World
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **params: str) -> httpx.Response:
        # Not httpx's own jar: it goes by today's clock, keeps `Secure` cookies from plain sockets, and hides what is sent.
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with httpx.AsyncClient(base_url=self.world.base, timeout=60, verify=False) as client:
            answer = await client.get(path, params=params or None, headers={"Cookie": cookie} if cookie else {})
        for header in answer.headers.get_list("set-cookie"):
            name, _, value = header.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    async def begin(self, provider: str = "oidc", **params: str) -> str:
        """Where the browser is sent to sign in."""
        answer = await self.get(f"/auth/login/{provider}", **params)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["location"])

    async def sign_in(self, idp: OpenId, provider: str = "oidc", **params: str) -> httpx.Response:
        """The whole way there and back; the answer to the callback."""
        state = idp.code_for(await self.begin(provider, **params))
        return await self.get(f"/auth/callback/{provider}", code="the-code", state=state)

    async def me(self) -> dict[str, Any] | None:
        answer = await self.get("/api/v1/me")
        return answer.json()["user"] if answer.status_code == 200 else None


@contextlib.asynccontextmanager
async def openid() -> AsyncIterator[OpenId]:
    """An OpenID provider on loopback, going by the clock of `World` at its beginning until a test says otherwise."""
    async with counterpart() as there:
        yield OpenId(there, lambda: 1777381200.0)


@contextlib.asynccontextmanager
async def signing_in(database_url: str, folder: Path, **variables: str) -> AsyncIterator[tuple[World, OpenId]]:
    """A server with an OpenID provider called `oidc`; `variables` are more of its environment."""
    async with (
        openid() as idp,
        served(database_url, folder, auth=True, variables=ON | idp.environment() | variables) as world,
    ):
        idp.clock = lambda: world.now.timestamp()
        yield world, idp
