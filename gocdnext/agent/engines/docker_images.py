"""Getting images onto this machine: when to pull, the lines about it, and the logins of `docker login`."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import trio

from gocdnext.agent.engines import EngineError, TaskLog
from gocdnext.agent.engines.docker_api import DockerApi, DockerError

PULL = 1800.0
"""Seconds for one pull."""
MAX_EVENT = 1024 * 1024
"""Bytes of one line of a pull's progress."""
MAX_LINES = 200
"""Lines of the log about one pull."""
DOCKER_HUB = "https://index.docker.io/v1/"

# A line for each percent of each layer is of use to nobody.
_QUIET = ("Downloading", "Extracting", "Waiting", "Verifying", "Pulling fs layer", "Copying", "Download complete")


async def have(api: DockerApi, reference: str, policy: str, log: TaskLog) -> dict[str, Any]:
    """Makes sure that an image is here, pulling it as the policy says. Returns what is known about it.

    Raises EngineError that says what to do, DockerError when the engine fails.
    """
    if not reference or not reference.isprintable() or any(char in reference for char in " ?#%\\"):
        raise EngineError(f"{reference!r} is not the name of an image")
    found = None if policy == "always" else await api.image(reference)
    if found is None:
        if policy == "never":
            raise EngineError(f"the image {reference} is not on this machine, and the pull policy is never")
        await _pull(api, _tagged(reference), log)
        found = await api.image(reference)
    if found is None:
        raise EngineError(f"the image {reference} was pulled, but the container engine does not find it")
    return found


async def _pull(api: DockerApi, reference: str, log: TaskLog) -> None:
    await log.line(f"$ pull image {reference}")
    headers = await trio.to_thread.run_sync(_login, reference)
    lines, failure = 0, ""
    try:
        with trio.fail_after(PULL):
            async with api.stream(
                "POST", "/images/create", params={"fromImage": reference}, headers=headers
            ) as response:
                async for event in _events(response):
                    failure = failure or str(event.get("error") or "")  # it is the last event
                    text = _progress(event)
                    if text and lines < MAX_LINES:
                        lines += 1
                        await log.line(text)
    except trio.TooSlowError:
        raise EngineError(f"pulling the image {reference} took more than {PULL / 60:.0f} minutes") from None
    except DockerError as error:
        failure = str(error)
    if failure:
        raise EngineError(f"cannot pull the image {reference}: {failure}")


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a pull, one a line."""
    rest = b""
    async for chunk in response.aiter_raw():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_EVENT:
            raise DockerError(0, "the progress of the pull cannot be read")
        for line in lines:
            if (event := _event(line)) is not None:
                yield event
    if (event := _event(rest)) is not None:
        yield event


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = orjson.loads(line) if line.strip() else None
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) else None


def _progress(event: dict[str, Any]) -> str:
    status = str(event.get("status") or event.get("stream") or "").strip()
    if not status or status.startswith(_QUIET):
        return ""
    layer = event.get("id")
    return f"{layer}: {status}" if layer else status


def _tagged(reference: str) -> str:
    """With a tag: without one the API pulls every tag there is."""
    name = reference.rpartition("/")[2]
    return reference if ":" in name or "@" in name else f"{reference}:latest"


def registry(reference: str) -> str:
    """The registry of an image, as logins name it."""
    host, slash, _ = reference.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        return DOCKER_HUB
    return DOCKER_HUB if host in {"docker.io", "index.docker.io"} else host


def _login(reference: str) -> dict[str, str]:
    """The header with the login that `docker login` stored for the image's registry; empty without one."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    try:
        with open(os.path.join(folder, "config.json"), "rb") as file:
            entry = orjson.loads(file.read(MAX_EVENT))["auths"][registry(reference)]
        user, colon, password = base64.b64decode(entry["auth"]).decode().partition(":")
    except (OSError, ValueError, KeyError, TypeError, binascii.Error):
        return {}
    if not colon:
        return {}
    login = {"username": user, "password": password, "serveraddress": registry(reference)}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(orjson.dumps(login)).decode()}
