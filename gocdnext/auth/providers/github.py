"""GitHub, which speaks OAuth but not OpenID: the person and the verified e-mail come from its API (contract-admin 2.3)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from gocdnext.auth.providers import profile
from gocdnext.auth.providers.errors import RejectedError, incomplete
from gocdnext.auth.providers.kinds import CALL_WITHIN, MAX_BYTES, address, good
from gocdnext.auth.providers.profile import Profile
from gocdnext.auth.providers.proof import Proof
from gocdnext.config import SignInProvider
from gocdnext.outbound.client import Answer, Outbound

API = "https://api.github.com"
SCOPE = "read:user user:email"
_ENTERPRISE_PATH = "/api/v3"


class GitHubProvider:
    """A provider of kind `github`: github.com, or an Enterprise Server behind the API base."""

    def __init__(self, settings: SignInProvider, outbound: Outbound) -> None:
        self.settings = settings
        self._outbound = outbound
        self._api = (settings.github_api_base or API).rstrip("/")
        self._web = web_base(self._api)

    @property
    def issuer(self) -> str:
        return self._web

    async def load(self) -> None:
        """There is nothing to learn."""

    def address(self, redirect_uri: str, proof: Proof) -> str:
        return address(
            f"{self._web}/login/oauth/authorize",
            {
                "response_type": "code",
                "client_id": self.settings.client_id,
                "redirect_uri": redirect_uri,
                "scope": SCOPE,
                "state": proof.state,
                "code_challenge": proof.challenge,
                "code_challenge_method": "S256",
                "access_type": "online",
            },
        )

    def is_from(self, iss: str | None) -> bool:
        """It does not name itself; whoever does is another one, unless it learns to."""
        return iss is None or f"{iss}/".startswith(f"{self._web}/")

    async def profile(self, code: str, redirect_uri: str, proof: Proof) -> Profile:
        token = await self._exchange(code, redirect_uri, proof)
        person = (await self._ask("/user", token)).mapping()
        emails = (await self._ask("/user/emails?per_page=100", token)).entries()
        number = person.get("id")
        if not isinstance(number, int) or isinstance(number, bool):
            raise incomplete("GitHub gave no number for the person")
        return profile.profile(
            issuer=self.issuer,
            subject=str(number),
            email=_verified(emails),
            names=(person.get("name"), person.get("login")),
            avatar=person.get("avatar_url"),
        )

    async def _exchange(self, code: str, redirect_uri: str, proof: Proof) -> str:
        form = {
            "client_id": self.settings.client_id,
            "client_secret": self.settings.client_secret,
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": proof.verifier,
        }
        answer = await self._outbound.request(
            "POST",
            f"{self._web}/login/oauth/access_token",
            headers={"Accept": "application/json"},
            form=form,
            timeout=CALL_WITHIN,
            max_bytes=MAX_BYTES,
            repeat=False,
        )
        # It says 200 also to a code that is good for nothing.
        token = good(answer, "the token endpoint").mapping().get("access_token")
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise RejectedError("GitHub gave no token for the code")
        return token

    async def _ask(self, path: str, token: str) -> Answer:
        answer = await self._outbound.request(
            "GET",
            self._api + path,
            headers={"Accept": "application/vnd.github+json", "Authorization": f"Bearer {token}"},
            timeout=CALL_WITHIN,
            max_bytes=MAX_BYTES,
        )
        return good(answer, f"the API at {path.partition('?')[0]}")


def web_base(api: str) -> str:
    """Where browsers go, from where the API is: an Enterprise Server has it below its host, github.com and ghe.com beside."""
    parts = urlsplit(api)
    if parts.netloc.startswith("api.") and not parts.path.strip("/"):
        return f"{parts.scheme}://{parts.netloc.removeprefix('api.')}"
    return api.removesuffix(_ENTERPRISE_PATH)


def _verified(emails: list[dict[str, Any]]) -> object:
    """The primary address if it is verified, else the first one that is. Raises RejectedError when none is."""
    good_ones = [each for each in emails if each.get("verified") is True]
    if not good_ones:
        raise incomplete("the person has no verified e-mail at GitHub")
    return next((each for each in good_ones if each.get("primary") is True), good_ones[0]).get("email")
