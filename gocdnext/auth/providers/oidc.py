"""OpenID Connect: discovery, the code flow with PKCE, the ID token, and the profile in it (contract-admin 2.3).

Google, Keycloak and every other provider of that kind. What a token claims is checked in `id_token`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

from joserfc.jwk import KeySet

from gocdnext.auth.providers import id_token, profile
from gocdnext.auth.providers.errors import RejectedError, UnknownKeyError
from gocdnext.auth.providers.keys import JSON, Keys
from gocdnext.auth.providers.kinds import CALL_WITHIN, MAX_BYTES, address, good
from gocdnext.auth.providers.profile import Profile
from gocdnext.auth.providers.proof import Proof
from gocdnext.config import SignInProvider
from gocdnext.outbound.client import Outbound

SCOPE = "openid profile email"
_WELL_KNOWN = "/.well-known/openid-configuration"
_LONGEST_URL = 2000


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a provider's discovery document says, as far as it counts here."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str
    algorithms: frozenset[str]
    secret_in_body: bool
    """Whether it takes the client's secret only in the body of a request."""
    names_itself: bool
    """Whether its answers name their issuer (RFC 9207): then one that does not is somebody else's."""


class OpenIdProvider:
    """A provider of kind `oidc`."""

    def __init__(self, settings: SignInProvider, outbound: Outbound, clock: Callable[[], datetime]) -> None:
        self.settings = settings
        self._outbound = outbound
        self._clock = clock
        self._metadata: Metadata | None = None
        self._keys: Keys | None = None

    @property
    def issuer(self) -> str:
        return self.settings.issuer

    async def load(self) -> None:
        answer = await self._outbound.request(
            "GET",
            self.issuer.rstrip("/") + _WELL_KNOWN,
            headers=JSON,
            timeout=CALL_WITHIN,
            max_bytes=MAX_BYTES,
            redirects=2,
        )
        found = metadata(good(answer, "discovery").json(), self.issuer)
        if self._keys is None or self._keys.url != found.jwks_uri:
            self._keys = Keys(self._outbound, self._clock, found.jwks_uri)
        self._metadata = found

    def address(self, redirect_uri: str, proof: Proof) -> str:
        known, _ = self._known()
        return address(
            known.authorization_endpoint,
            {
                "response_type": "code",
                "client_id": self.settings.client_id,
                "redirect_uri": redirect_uri,
                "scope": SCOPE,
                "state": proof.state,
                "nonce": proof.nonce,
                "code_challenge": proof.challenge,
                "code_challenge_method": "S256",
                "access_type": "online",
            },
        )

    def is_from(self, iss: str | None) -> bool:
        known, _ = self._known()
        return iss == self.issuer if iss is not None else not known.names_itself

    async def profile(self, code: str, redirect_uri: str, proof: Proof) -> Profile:
        known, keys = self._known()
        said = await self._exchange(known, code, redirect_uri, proof)
        claims = await self._claims(known, keys, said.get("id_token"), proof)
        if not claims.get("email"):
            claims = await self._asked(known, said.get("access_token"), claims)
        if claims.get("email_verified", True) not in (True, "true"):
            raise RejectedError("the e-mail is not verified")
        return profile.profile(
            issuer=self.issuer,
            subject=claims["sub"],
            email=claims.get("email"),
            names=(claims.get("name"), claims.get("preferred_username")),
            avatar=claims.get("picture"),
        )

    def _known(self) -> tuple[Metadata, Keys]:
        assert self._metadata is not None, "it was never loaded"
        assert self._keys is not None
        return self._metadata, self._keys

    async def _exchange(self, known: Metadata, code: str, redirect_uri: str, proof: Proof) -> dict[str, Any]:
        """What the provider gives for a code, which is good once: nothing is repeated."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": proof.verifier,
        }
        headers = dict(JSON)
        if known.secret_in_body:
            form |= {"client_id": self.settings.client_id, "client_secret": self.settings.client_secret}
        else:
            headers["Authorization"] = _basic(self.settings.client_id, self.settings.client_secret)
        answer = await self._outbound.request(
            "POST",
            known.token_endpoint,
            headers=headers,
            form=form,
            timeout=CALL_WITHIN,
            max_bytes=MAX_BYTES,
            repeat=False,
        )
        return good(answer, "the token endpoint").mapping()

    async def _claims(self, known: Metadata, keys: Keys, token: object, proof: Proof) -> dict[str, Any]:
        def verified(with_keys: KeySet) -> dict[str, Any]:
            return id_token.verify(
                token,
                with_keys,
                known.algorithms,
                issuer=self.issuer,
                client_id=self.settings.client_id,
                nonce=proof.nonce,
                now=self._clock(),
            )

        current = await keys.current()
        try:
            return verified(current)
        except UnknownKeyError:
            newer = await keys.newer(current)
            if newer is None:
                raise
            return verified(newer)

    async def _asked(self, known: Metadata, token: object, claims: dict[str, Any]) -> dict[str, Any]:
        """The claims with what the userinfo endpoint adds: not every provider puts the e-mail into the ID token."""
        if not known.userinfo_endpoint or not isinstance(token, str) or not token.isascii() or not token.isprintable():
            return claims
        answer = await self._outbound.request(
            "GET",
            known.userinfo_endpoint,
            headers=JSON | {"Authorization": f"Bearer {token}"},
            timeout=CALL_WITHIN,
            max_bytes=MAX_BYTES,
        )
        said = good(answer, "the userinfo endpoint").mapping()
        if said.get("sub") != claims["sub"]:
            raise RejectedError("the userinfo endpoint speaks of somebody else")
        return said | claims


def metadata(document: object, issuer: str) -> Metadata:
    """What a discovery document says. Raises RejectedError for one of another issuer or without what is needed."""
    if not isinstance(document, dict):
        raise RejectedError("the discovery document is no JSON object")
    if document.get("issuer") != issuer:
        raise RejectedError(
            f"the discovery document is of another issuer than {issuer}: they must be equal to the letter"
        )
    authentication = document.get("token_endpoint_auth_methods_supported")
    return Metadata(
        authorization_endpoint=_endpoint(document, "authorization_endpoint", issuer),
        token_endpoint=_endpoint(document, "token_endpoint", issuer),
        jwks_uri=_endpoint(document, "jwks_uri", issuer),
        userinfo_endpoint=_endpoint(document, "userinfo_endpoint", issuer) if "userinfo_endpoint" in document else "",
        algorithms=id_token.algorithms(document.get("id_token_signing_alg_values_supported")),
        secret_in_body=isinstance(authentication, list) and "client_secret_basic" not in authentication,
        names_itself=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _endpoint(document: dict[str, Any], name: str, issuer: str) -> str:
    """An address in the document; as safe as the issuer's own."""
    said = document.get(name)
    problem = RejectedError(f"the discovery document has no usable {name}")
    if not isinstance(said, str) or len(said) > _LONGEST_URL or not said.isascii() or not said.isprintable():
        raise problem
    try:
        parts, secure = urlsplit(said), urlsplit(issuer).scheme == "https"
    except ValueError:
        raise problem from None
    if not parts.netloc or parts.scheme not in (("https",) if secure else ("https", "http")) or " " in said:
        raise problem
    return said


def _basic(client_id: str, secret: str) -> str:
    pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"  # RFC 6749 2.3.1
    return "Basic " + base64.b64encode(pair.encode()).decode()
