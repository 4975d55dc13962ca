"""One request between hypercorn and the application.

hypercorn announces `http.disconnect` while it is still sending the end of an answer, and quart-trio cancels the request
for it: hypercorn then neither closes a connection that was to be closed nor starts the clock of an idle one. And Quart
takes whatever arrives, as fast as it arrives: an upload would be in memory before its reader has begun.
"""

from __future__ import annotations

from typing import Any

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent
from quart import Request, Response
from quart.utils import encode_headers
from quart.wrappers.response import DataBody
from quart_trio.asgi import TrioASGIHTTPConnection

from gocdnext.api.body import BoundedBody, StreamedBody, is_streamed


class Connection(TrioASGIHTTPConnection):
    """A request that is cancelled when its client leaves, unless its answer is complete."""

    _complete = False

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Handles the request; ends when the answer is sent or the client has gone."""

        async def watched(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._complete = True
            await send(message)

        await super().__call__(receive, watched)

    async def handle_messages(  # type: ignore[override]
        self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
    ) -> None:
        """Feeds the request's body, no faster than it has room, until the connection says that it is over."""
        body = request.body
        assert isinstance(body, BoundedBody)
        while (message := await receive())["type"] == "http.request":
            body.append(message.get("body", b""))
            if not message.get("more_body", False):
                body.set_complete()
            await body.room()
        if not self._complete:
            nursery.cancel_scope.cancel()

    async def _send_response(self, send: ASGISendCallable, response: Any) -> None:
        """A body that is there whole goes out in one message: each of them costs a pass through hypercorn."""
        if not isinstance(response, Response) or not isinstance(response.response, DataBody):
            await super()._send_response(send, response)
            return
        headers = encode_headers(response.headers)
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": headers, "trailers": False}
        )
        await send({"type": "http.response.body", "body": response.response.data, "more_body": False})

    def _create_request_from_scope(self, send: ASGISendCallable) -> Request:
        request: Request = super()._create_request_from_scope(send)
        if is_streamed(self.scope):
            request.body = StreamedBody()
        return request
