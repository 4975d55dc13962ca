"""The floor of the figures about reading: a bare quart-trio application that answers `hello`, on hypercorn as we run it.

python -m tests.bench.hello    prints its port and serves until it is killed
"""

from __future__ import annotations

from functools import partial

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart_trio import QuartTrio

from gocdnext.api.listen import open_listener

app = QuartTrio("hello")


@app.route("/")
async def hello() -> str:
    return "hello"


async def main() -> None:
    listener = open_listener("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.keep_alive_max_requests = 1_000_000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve, app, config, mode="asgi"))  # type: ignore[arg-type]


if __name__ == "__main__":
    trio.run(main)
