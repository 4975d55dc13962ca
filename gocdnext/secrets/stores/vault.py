"""Secrets from HashiCorp Vault or OpenBao: KV of either version, signed in by AppRole, by Kubernetes or with a token.

Whoever may set secrets of a project names the path: whatever could hand out the credentials of this server is refused here,
whatever the policy in the store allows.
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec
import orjson
import trio

from gocdnext.outbound.client import Answer, Outbound
from gocdnext.outbound.errors import BadAnswerError, OutboundError, RefusedTargetError
from gocdnext.secrets.stores.errors import ERROR, UNAUTHORIZED, UNREACHABLE, StoreError, checked

APPROLE, KUBERNETES, TOKEN = "approle", "kubernetes", "token"
DEFAULT_JWT_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount/token"
_JWT_FOLDERS: Final = ("/var/run/secrets/", "/run/secrets/")
"""Where the token of a service account may lie: anything else on the disk is not sent anywhere."""
_PRIVATE: Final = frozenset({"auth", "sys", "identity", "cubbyhole"})
"""Mounts that hold no secrets of jobs, and that tell a token about itself."""
MAX_ANSWER = 1024 * 1024
MAX_VALUE = 64 * 1024
MAX_JWT = 16 * 1024
_RENEW = 10.0
"""Seconds before its end in which a token is not used any more."""


class VaultSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is no secret of the settings (contract-admin 5.8)."""

    addr: str = ""
    kv_mount: str = ""
    auth: str = APPROLE
    role: str = ""
    role_id: str = ""
    jwt_path: str = ""
    namespace: str = ""
    ca_cert: str = ""
    insecure_skip_verify: bool = False


@dataclass(slots=True)
class _Session:
    token: str = field(repr=False)
    until: float


def problem(settings: VaultSettings, credentials: Mapping[str, str]) -> str | None:
    """Why an enabled store cannot be meant, in the words of contract-admin 5.8; None when it can."""
    if not settings.addr:
        return "vault backend requires value.addr"
    if not settings.addr.startswith(("https://", "http://")):
        return "value.addr is the address of the store, such as https://vault.example:8200"
    if settings.auth not in (APPROLE, KUBERNETES, TOKEN):
        return f'unknown vault auth "{settings.auth[:40]}" (want {APPROLE} | {KUBERNETES} | {TOKEN})'
    if settings.auth == APPROLE and not settings.role_id:
        return "vault approle auth requires value.role_id"
    if settings.auth == KUBERNETES and not settings.role:
        return "vault kubernetes auth requires value.role"
    if settings.jwt_path and (not settings.jwt_path.startswith(_JWT_FOLDERS) or ".." in settings.jwt_path):
        return f"value.jwt_path must lie below {_JWT_FOLDERS[0]}"
    needed = credential_of(settings)
    if needed and not credentials.get(needed):
        return f"vault {settings.auth} auth requires {needed} — re-enter it to save"
    if settings.ca_cert:
        try:
            ssl.create_default_context(cadata=settings.ca_cert)
        except (ssl.SSLError, ValueError):
            return "value.ca_cert is not a certificate in PEM"
    return None


def credential_of(settings: VaultSettings) -> str | None:
    """The name of the credential that the chosen way of signing in needs."""
    return {APPROLE: "secret_id", TOKEN: "token"}.get(settings.auth)


class Vault:
    """One store as it is configured. Keeps a token for as long as the store says, and signs in again when it is refused."""

    def __init__(
        self,
        settings: VaultSettings,
        credentials: Mapping[str, str],
        outbound: Outbound,
        *,
        timeout: float,
        clock: Callable[[], datetime],
    ) -> None:
        """`settings` have no `problem`. `timeout` (seconds) is for each read."""
        self._settings = settings
        self._credentials = {name: value.strip() for name, value in credentials.items()}
        self._outbound = outbound
        self._clock = clock
        self._timeout = timeout
        self._tls = _tls(settings)
        self._session: _Session | None = None
        self._signing_in = trio.Lock()

    async def read(self, path: str, key: str) -> str:
        """A field of a secret; what is no text comes as JSON. Raises StoreError."""
        try:
            with trio.fail_after(self._timeout):
                data = await self._data(_checked_path(path, self._settings.kv_mount))
        except trio.TooSlowError:
            raise StoreError(UNREACHABLE, f"vault gave no answer within {self._timeout:g} s") from None
        if key not in data:
            raise StoreError(ERROR, f"vault has {path}, but no field {key} in it")
        value = data[key]
        text = checked(value if isinstance(value, str) else orjson.dumps(value).decode(), MAX_VALUE)
        own = [self._session.token if self._session else "", *self._credentials.values()]
        if any(credential and credential in text for credential in own):
            raise StoreError(ERROR, f"vault would give its own credential for {path}: it is not for jobs")
        return text

    async def check(self) -> None:
        """Signs in, and has the token looked at. Raises StoreError."""
        try:
            with trio.fail_after(self._timeout):
                answer = await self._get("auth/token/lookup-self", await self._token())
        except trio.TooSlowError:
            raise StoreError(UNREACHABLE, f"vault gave no answer within {self._timeout:g} s") from None
        # 403: it may not look at itself, which a policy may forbid a token that is good otherwise.
        if not answer.ok and (self._settings.auth == TOKEN or answer.status != 403):
            raise _refusal(answer, "the token")

    # ---- inside ------------------------------------------------------------------------------------

    async def _data(self, path: str) -> dict[str, Any]:
        mount = self._settings.kv_mount.strip("/")
        if not mount:
            answer = await self._authorised(path)
            if answer.ok:
                data = _mapping(_mapping(answer.mapping()).get("data"))
                versioned = isinstance(data.get("data"), dict) and isinstance(data.get("metadata"), dict)
                return _mapping(data["data"]) if versioned else data
            raise _refusal(answer, path)
        newer = await self._authorised(f"{quote(mount)}/data/{path}")
        if newer.ok:
            return _mapping(_mapping(newer.mapping().get("data")).get("data"))
        older = await self._authorised(f"{quote(mount)}/{path}") if newer.status in (403, 404) else newer
        if older.ok:
            return _mapping(older.mapping().get("data"))
        raise _refusal(newer if newer.status == 403 else older, path)

    async def _authorised(self, path: str) -> Answer:
        """A read with a token; when that is refused, once more with a new one."""
        token = await self._token()
        answer = await self._get(path, token)
        if answer.status == 403 and self._settings.auth != TOKEN:
            answer = await self._get(path, await self._token(instead_of=token))
        return answer

    async def _token(self, instead_of: str | None = None) -> str:
        if self._settings.auth == TOKEN:
            return self._credentials["token"]
        async with self._signing_in:
            session = self._session
            if session is None or session.token == instead_of or trio.current_time() >= session.until:
                session = self._session = await self._sign_in()
            return session.token

    async def _sign_in(self) -> _Session:
        if self._settings.auth == APPROLE:
            body = {"role_id": self._settings.role_id.strip(), "secret_id": self._credentials["secret_id"]}
        else:
            body = {"role": self._settings.role.strip(), "jwt": await self._jwt()}
        answer = await self._call("POST", f"auth/{self._settings.auth}/login", {}, body)
        if answer.status in (400, 401, 403):
            raise StoreError(UNAUTHORIZED, f"vault does not let this server in by {self._settings.auth}")
        if not answer.ok:
            raise _refusal(answer, "signing in")
        auth = _mapping(answer.mapping().get("auth"))
        token, lease = auth.get("client_token"), auth.get("lease_duration")
        if not isinstance(token, str) or not token:
            raise StoreError(ERROR, "vault let this server in and gave no token")
        seconds = lease - _RENEW if isinstance(lease, int) and lease > 0 else float("inf")
        return _Session(token, trio.current_time() + seconds)

    async def _jwt(self) -> str:
        path = Path(self._settings.jwt_path or DEFAULT_JWT_PATH)
        try:
            data = await trio.to_thread.run_sync(_beginning, path, abandon_on_cancel=True)
            return data.decode("ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise StoreError(ERROR, f"the token of the service account cannot be read from {path}") from None

    async def _get(self, path: str, token: str) -> Answer:
        return await self._call("GET", path, {"X-Vault-Token": token}, None)

    async def _call(self, method: str, path: str, headers: dict[str, str], body: object) -> Answer:
        url = f"{self._settings.addr.rstrip('/')}/v1/{path}"
        headers = {"X-Vault-Request": "true", **headers}
        if self._settings.namespace:
            headers["X-Vault-Namespace"] = self._settings.namespace.strip()
        try:
            if self._tls is None:
                return await self._sent(self._outbound, method, url, headers, body)
            async with Outbound(self._outbound.policy, self._clock, tls=self._tls) as own:
                return await self._sent(own, method, url, headers, body)
        except (BadAnswerError, RefusedTargetError) as error:
            raise StoreError(ERROR, f"vault: {error}") from None
        except OutboundError as error:
            raise StoreError(UNREACHABLE, f"vault cannot be reached: {error}") from None

    async def _sent(self, by: Outbound, method: str, url: str, headers: dict[str, str], body: object) -> Answer:
        answer = await by.request(method, url, headers=headers, json=body, timeout=self._timeout, max_bytes=MAX_ANSWER)
        if answer.ok:
            answer.mapping()
        return answer


def _checked_path(path: str, mount: str) -> str:
    """The path as it is asked for. Raises StoreError for one that could lead elsewhere than into a store of secrets."""
    segments = path.strip("/").split("/")
    if any(not segment or segment in (".", "..") for segment in segments) or not path.isprintable() or len(path) > 1000:
        raise StoreError(ERROR, f"{path[:80]!r} is not the path of a secret")
    if not mount.strip("/") and (segments[0] in _PRIVATE or _speaks_of_tokens(segments)):
        raise StoreError(ERROR, f"{path[:80]!r} holds no secrets for jobs")
    return "/".join(quote(segment, safe="") for segment in segments)


def _speaks_of_tokens(segments: list[str]) -> bool:
    """Whether it could be about tokens below a namespace that is part of the path."""
    about = (("auth", "token"), ("cubbyhole", "response"), ("identity", "oidc"))
    return any(pair in about for pair in itertools.pairwise(segments))


def _refusal(answer: Answer, what: str) -> StoreError:
    if answer.status in (401, 403):
        return StoreError(UNAUTHORIZED, f"vault does not allow this server to read {what}")
    if answer.status == 404:
        return StoreError(ERROR, f"vault has no {what}")
    if answer.status in (429, 472, 473, 500, 501, 502, 503, 504):
        return StoreError(UNREACHABLE, f"vault is not in service (it answers {answer.status}): sealed, or a standby")
    return StoreError(ERROR, f"vault answers {answer.status} for {what}")


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise StoreError(ERROR, "vault answers with something else than a secret")
    return value


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_JWT)


def _tls(settings: VaultSettings) -> ssl.SSLContext | None:
    """None: the authorities that every call trusts."""
    if settings.insecure_skip_verify:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return ssl.create_default_context(cadata=settings.ca_cert) if settings.ca_cert else None
