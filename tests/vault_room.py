"""A store in the shape of Vault's HTTP API, as its documentation and dev server answer it: KV of both versions, three ways in.

Where no Vault can be installed this stands for it: status, bodies and headers are the documented ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.counterpart import Asked, Told, as_json

ROLE_ID, SECRET_ID = "role-1", "s3cret-id-0f-the-server"
STATIC_TOKEN = "hvs.static-token-of-the-server"
JWT = "jwt.of.the-service-account"


@dataclass
class VaultRoom:
    """`newer` and `older` are the contents of the mounts `kv` (version 2) and `old` (version 1), by path."""

    newer: dict[str, dict[str, Any]] = field(default_factory=dict)
    older: dict[str, dict[str, Any]] = field(default_factory=dict)
    lease: int = 3600
    logins: int = 0
    good: set[str] = field(default_factory=lambda: {STATIC_TOKEN})
    forbidden: set[str] = field(default_factory=set)
    sealed: bool = False
    namespace: str = ""

    def __call__(self, asked: Asked) -> Told:
        if self.sealed:
            return _errors(503, "Vault is sealed")
        if asked.headers.get("x-vault-namespace", "") != self.namespace:
            return _errors(404)
        path = asked.path.removeprefix("/v1/")
        if asked.method == "POST":
            return self._login(path, asked.json)
        if asked.headers.get("x-vault-token") not in self.good or path in self.forbidden:
            return _errors(403, "1 error occurred:\n\t* permission denied\n\n")
        if path == "auth/token/lookup-self":
            return _data({"id": asked.headers["x-vault-token"], "policies": ["ci"]})
        if path.startswith("kv/data/") and (found := self.newer.get(path[8:])) is not None:
            return _data({"data": found, "metadata": {"version": 1, "destroyed": False}})
        if path.startswith("old/") and (found := self.older.get(path[4:])) is not None:
            return _data(found)
        return _errors(404)

    def _login(self, path: str, body: dict[str, str]) -> Told:
        good = {
            "auth/approle/login": {"role_id": ROLE_ID, "secret_id": SECRET_ID},
            "auth/kubernetes/login": {"role": "ci", "jwt": JWT},
        }
        if body != good.get(path):
            return _errors(400, "invalid role or secret ID")
        self.logins += 1
        token = f"hvs.session-{self.logins}"
        self.good.add(token)
        return as_json({"auth": {"client_token": token, "lease_duration": self.lease, "renewable": True}, "data": None})


def _data(data: dict[str, Any]) -> Told:
    return as_json({"request_id": "r", "lease_id": "", "lease_duration": 0, "data": data, "auth": None})


def _errors(status: int, *texts: str) -> Told:
    return as_json({"errors": list(texts)}, status)
