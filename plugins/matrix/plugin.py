"""Posts a message to a Matrix room."""

import uuid
from urllib.parse import quote

import kit
import kit_http

LARGEST = 60_000
"""Bytes of an event are limited to 64 KiB by the protocol; this leaves room for the rest of it."""
HINTS = {
    401: "the token is not valid (any more)",
    403: "the account of the token must be in the room and may write there",
    404: "is this the address of a homeserver, and the id of a room on it?",
}


def work() -> None:
    homeserver = kit_http.address("homeserver")
    token = kit.needed_secret("token")
    room = kit.needed("room-id")
    if not room.startswith("!"):
        raise kit.InputError(
            f"`room-id` is {kit.shown(room)}; write the room's id, which begins with `!`, not its alias"
        )
    html = kit.block("html")
    body = kit.block("body", kit.about())
    content = {"msgtype": kit.choice("msgtype", ("m.text", "m.notice", "m.emote"), "m.text"), "body": body}
    if html:
        content |= {"format": "org.matrix.custom.html", "formatted_body": html}
    if len(body.encode()) + len(html.encode()) > LARGEST:
        raise kit.InputError(f"the message is over {LARGEST} bytes; shorten it")
    # The transaction id makes a repeated request the same message.
    url = f"{homeserver}/_matrix/client/v3/rooms/{quote(room, safe='')}/send/m.room.message/{uuid.uuid4()}"
    client = kit_http.Http({"Authorization": f"Bearer {token}"})
    answer = client.send("PUT", url, json=content, repeat=True).expect("the homeserver did not take the message", HINTS)
    kit.say(f"the message was posted as {answer.json().get('event_id', 'an event without id')}")


if __name__ == "__main__":
    kit.main(work)
