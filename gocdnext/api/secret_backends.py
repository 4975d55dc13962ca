"""`/api/v1/admin/secret-backends`: stores outside of the database that secrets come from (contract-admin 5.8).

Credentials go in and never come out.
"""

from __future__ import annotations

from quart import Blueprint, Response

from gocdnext.api import params, wire
from gocdnext.api.context import services
from gocdnext.api.respond import answer, utc_or_none
from gocdnext.api.routing import Description, route
from gocdnext.api.trail import Audited, note
from gocdnext.errors import TooLargeError
from gocdnext.secrets.stores.configured import Shown, Wish
from gocdnext.secrets.stores.errors import StoreError

blueprint = Blueprint("secret_backends", __name__)

MAX_BODY = 64 * 1024
ONE = "/api/v1/admin/secret-backends/<source>"


@route(blueprint, "GET", "/api/v1/admin/secret-backends", described=Description(gives=wire.SecretBackends))
async def list_backends() -> Response:
    """Every kind of store, in use or not."""
    shown = await services().stores.shown()
    return answer(wire.SecretBackends(backends=[_backend(one) for one in shown]))


@route(
    blueprint,
    "PUT",
    ONE,
    Audited("platform_setting.set", "secret_backend", "{source}"),
    described=Description(takes=wire.SecretBackendBody, gives=wire.SecretBackend, fails=frozenset({413})),
)
async def set_backend(source: str) -> Response:
    """Sets a store, in place of what the environment says of it."""
    wish = await _wish()
    note(
        source=source,
        enabled=wish.enabled,
        credential_keys=",".join(sorted(name for name, text in wish.credentials.items() if text)),
        insecure_skip_verify=wish.value.get("insecure_skip_verify") is True,
        has_ca_cert=bool(wish.value.get("ca_cert")),
    )
    return answer(_backend(await services().stores.set(source, wish)))


@route(
    blueprint,
    "DELETE",
    ONE,
    Audited("platform_setting.delete", "secret_backend", "{source}"),
    described=Description(gives=wire.SecretBackend),
)
async def delete_backend(source: str) -> Response:
    """Forgets what was set; the answer is what applies then."""
    note(source=source)
    return answer(_backend(await services().stores.delete(source)))


@route(
    blueprint,
    "POST",
    f"{ONE}/test",
    Audited("platform_setting.test", "secret_backend", "{source}"),
    described=Description(takes=wire.SecretBackendBody, gives=wire.SecretBackendTest, fails=frozenset({413})),
)
async def test_backend(source: str) -> Response:
    """Tries a store as it is described; nothing is kept."""
    wish = await _wish()
    try:
        await services().stores.test(source, wish)
    except StoreError as error:
        note(result=error.kind)
        return answer(wire.SecretBackendTest(status=error.kind, message=str(error)))
    note(result="ok")
    return answer(wire.SecretBackendTest(status="ok"))


async def _wish() -> Wish:
    data = await params.body_within(MAX_BODY)
    if data is None:
        raise TooLargeError("the request is larger than 64 KiB")
    body = params.json_object(data, wire.SecretBackendBody)
    return Wish(body.enabled, body.value or {}, body.credentials or {}, body.preserve_credentials)


def _backend(one: Shown) -> wire.SecretBackend:
    return wire.SecretBackend(
        source=one.source,
        enabled=one.enabled,
        value=dict(one.value),
        credential_keys=["configured"] if one.has_credentials else [],
        source_origin=one.origin,
        updated_at=utc_or_none(one.updated_at),
    )
