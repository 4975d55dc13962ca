"""The Docker API over a unix socket, which docker and podman both speak: the calls that the container engine needs.

The only module that knows HTTP and the shapes of the API's JSON. It decides nothing about jobs. No API version stands
in the paths: each daemon answers in its own newest one (new ones refuse old versions), and what is used here is in all.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, cast

import httpx
import orjson
import trio

CALL = 120.0
"""Seconds for one call that does not wait for a container: a busy daemon is slow to create and remove."""
PING = 5.0
LOOKS, LOOK = 50, 0.01
"""How often, and how many seconds apart, an ended container is looked at before it is waited for."""
MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer that is read as one JSON document."""

STDOUT_FRAME, STDERR_FRAME = 1, 2


class DockerError(Exception):
    """A call failed. `status` is the HTTP status, 0 when the daemon did not answer; the text is the daemon's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class DockerApi:
    """Calls to one daemon. It keeps no connection open, so there is nothing to close."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._podman = False
        # verify: nothing here is TLS, and reading the certificates would take time and memory.
        transport = httpx.AsyncHTTPTransport(uds=socket, verify=False, limits=httpx.Limits(max_keepalive_connections=0))
        self._client = httpx.AsyncClient(
            transport=transport, base_url="http://docker", timeout=httpx.Timeout(CALL), trust_env=False
        )

    async def ping(self) -> bool:
        """Whether a daemon answers."""
        try:
            with trio.fail_after(PING):
                async with self.stream("GET", "/_ping") as response:
                    self._podman = "libpod-api-version" in response.headers
                    await _read(response)
        except (DockerError, trio.TooSlowError):
            return False
        return True

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: object = None,
        forever: bool = False,
    ) -> Any:
        """One call; its JSON answer, or None. Raises DockerError. `forever`: the answer may take any time."""
        async with self.stream(method, path, params=params, body=body, forever=forever) as response:
            content = await _read(response)
        if not content or not response.headers.get("content-type", "").startswith("application/json"):
            return None
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise DockerError(response.status_code, "the container engine's answer is not JSON") from None

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        forever: bool = True,
    ) -> AsyncIterator[httpx.Response]:
        """The response when its head is there and says success; its body is the caller's to read."""
        request = self._client.build_request(
            method,
            path,
            params=params,
            content=orjson.dumps(body) if body is not None else None,
            headers={**(headers or {}), **({"Content-Type": "application/json"} if body is not None else {})},
            timeout=httpx.Timeout(CALL, read=None) if forever else httpx.USE_CLIENT_DEFAULT,
        )
        with self._translated():
            response = await self._client.send(request, stream=True)
            try:
                if response.status_code >= 400 or response.status_code == 304:
                    raise DockerError(response.status_code, _message(await _read(response), response))
                yield response
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + PING):
                    await response.aclose()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise DockerError(0, f"the container engine at {self.socket} does not answer: {why}") from error

    # -- containers

    async def create(self, name: str, config: Mapping[str, object]) -> None:
        """Makes a container. One of the same name, left by an attempt whose agent was killed, is removed."""
        for again in (True, False):
            try:
                await self.call("POST", "/containers/create", params={"name": name}, body=config)
            except DockerError as error:
                if not again or "in use" not in str(error):
                    raise
                await self.remove(name)
            else:
                return

    async def start(self, name: str) -> None:
        await self.call("POST", f"/containers/{name}/start")

    def attach(self, name: str) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        """The output from now on. Entered before `start`, nothing of it is missed."""
        return self.stream("POST", f"/containers/{name}/attach", params={"stream": 1, "stdout": 1, "stderr": 1})

    async def exit_code(self, name: str) -> int:
        """The exit code of a container whose output has ended; waits for its end if need be."""
        # It is about to end, or has ended: looking is quicker than podman's wait, which takes half a second.
        for _ in range(LOOKS):
            state = (await self.inspect(name))["State"]
            if state["Status"] in {"exited", "stopped"}:
                return int(state["ExitCode"])
            await trio.sleep(LOOK)
        answer = await self.call("POST", f"/containers/{name}/wait", forever=True)
        return int(answer["StatusCode"])

    async def inspect(self, name: str) -> dict[str, Any]:
        return cast("dict[str, Any]", await self.call("GET", f"/containers/{name}/json"))

    async def last_lines(self, name: str, count: int) -> bytes:
        """What a container printed last, both streams, as raw bytes."""
        params: dict[str, str | int] = {"stdout": 1, "stderr": 1, "tail": count}
        async with self.stream("GET", f"/containers/{name}/logs", params=params, forever=False) as response:
            demultiplexer = Demultiplexer()
            return b"".join(data for _, data in demultiplexer.feed(await _read(response)))

    async def remove(self, name: str) -> None:
        """Kills and removes a container with its anonymous volumes; no error when it is not there."""
        # Without a kill before, podman sends SIGTERM and waits ten seconds. It need not be running, which each daemon
        # says in its own way: only the removal counts.
        with contextlib.suppress(DockerError):
            await self.call("POST", f"/containers/{name}/kill")
        try:
            await self.call("DELETE", f"/containers/{name}", params={"force": 1, "v": 1})
        except DockerError as error:
            if error.status != 404:
                raise

    async def check_health(self, name: str, argv: list[str]) -> bool:
        """Runs the health check of a running container, whose command is `argv`, once."""
        if self._podman:
            # An exec of podman's leaves a process behind that waits five minutes for questions; its own check does not.
            answer = await self.call("GET", f"/v4.0.0/libpod/containers/{name}/healthcheck")
            return bool(answer["Status"] == "healthy")
        body = {"Cmd": argv, "AttachStdout": True, "AttachStderr": True}
        created = await self.call("POST", f"/containers/{name}/exec", body=body)
        start = {"Detach": False, "Tty": False}
        async with self.stream("POST", f"/exec/{created['Id']}/start", body=start) as response:
            async for _ in response.aiter_raw():
                pass
        return int((await self.call("GET", f"/exec/{created['Id']}/json"))["ExitCode"]) == 0

    async def labelled(self, kind: str, label: str) -> list[dict[str, Any]]:
        """All `containers` or `networks` with a label (`name` or `name=value`)."""
        params: dict[str, str | int] = {"filters": json.dumps({"label": [label]})}
        if kind == "containers":
            return cast("list[dict[str, Any]]", await self.call("GET", "/containers/json", params={**params, "all": 1}))
        return cast("list[dict[str, Any]]", await self.call("GET", "/networks", params=params))

    # -- networks

    async def create_network(self, name: str, labels: Mapping[str, str]) -> None:
        await self.call("POST", "/networks/create", body={"Name": name, "Labels": dict(labels)})

    async def remove_network(self, name: str) -> None:
        """No error when it is not there."""
        try:
            await self.call("DELETE", f"/networks/{name}")
        except DockerError as error:
            if error.status != 404:
                raise

    # -- images

    async def image(self, reference: str) -> dict[str, Any] | None:
        """What is known about an image that is here, or None."""
        try:
            return cast("dict[str, Any]", await self.call("GET", f"/images/{reference}/json"))
        except DockerError as error:
            if error.status == 404:
                return None
            raise


class Demultiplexer:
    """Takes an attach stream apart: frames of eight bytes of head (stream, length) and that many of data. Pure."""

    HEAD = 8

    def __init__(self) -> None:
        self._head = bytearray()
        self._stream = 0
        self._left = 0

    def feed(self, chunk: bytes) -> list[tuple[int, bytes]]:
        """The data in this chunk, each with the number of its stream. Holds back no data, only parts of a head."""
        found: list[tuple[int, bytes]] = []
        at = 0
        while at < len(chunk):
            if self._left:
                data = chunk[at : at + self._left]
                found.append((self._stream, data))
                self._left -= len(data)
                at += len(data)
                continue
            missing = self.HEAD - len(self._head)
            self._head += chunk[at : at + missing]
            at += missing
            if len(self._head) == self.HEAD:
                self._stream, self._left = self._head[0], int.from_bytes(self._head[4:], "big")
                self._head.clear()
        return found


async def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > MAX_ANSWER:
            raise DockerError(response.status_code, "the container engine's answer is too long")
    return bytes(content)


def _message(content: bytes, response: httpx.Response) -> str:
    """The daemon's words for a failure."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        document = None
    message = document.get("message") if isinstance(document, dict) else None
    return message.strip() if isinstance(message, str) and message.strip() else f"HTTP {response.status_code}"
