"""Posts an adaptive card to a Microsoft Teams webhook."""

import colorsys
import json
import re

import kit
import kit_http

LARGEST = 28 * 1024
"""Bytes of a message that Teams takes."""
COLOURS = ("good", "warning", "attention", "accent", "default")
HINTS = {
    401: "the workflow must allow anyone to trigger it",
    404: "the webhook is gone; make a new one",
    413: "the card is too large",
}


def work() -> None:
    webhook = kit_http.webhook()
    title = kit.text("title", kit.about())
    message = kit.block("message")
    colour = named_colour(kit.text("theme-color", "default"))
    content = payload() if kit.text("payload-file") else card(title, message, colour)
    body = json.dumps(content).encode()
    if len(body) > LARGEST:
        raise kit.InputError(f"the card has {len(body)} bytes, and Teams takes {LARGEST}; shorten `message`")
    headers = {"Content-Type": "application/json"}
    answer = kit_http.Http().send("POST", webhook, content=body, headers=headers)
    answer.expect("Teams did not take the card", HINTS)
    # The old connectors answer 200 with the error of another service as text.
    if "HTTP error" in answer.text:
        raise kit.FailedError(f"Teams did not take the card: {' '.join(answer.text.split())[: kit.SHOWN]}")
    kit.say("the card was posted")


def payload() -> object:
    try:
        return json.loads(kit.read("payload-file"))
    except ValueError as error:
        raise kit.InputError(f"`payload-file` is not JSON: {error}") from None


def card(title: str, message: str, colour: str) -> dict[str, object]:
    """The message that carries the card, as Teams documents it."""
    body = [{"type": "TextBlock", "text": title, "weight": "Bolder", "size": "Medium", "color": colour, "wrap": True}]
    if message:
        body.append({"type": "TextBlock", "text": message, "wrap": True})
    content = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
        "msteams": {"width": "Full"},
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": content}
    return {"type": "message", "attachments": [attachment]}


def named_colour(value: str) -> str:
    """A colour of adaptive cards, which know names only: the nearest one of hexadecimal digits."""
    if value.lower() in COLOURS:
        return value.lower()
    match = re.fullmatch(r"#?([0-9a-fA-F]{6})", value)
    if not match:
        raise kit.InputError(
            f"`theme-color` is {kit.shown(value)}; write {', '.join(COLOURS)} or a colour such as 0076D7"
        )
    red, green, blue = (int(match[1][place : place + 2], 16) / 255 for place in (0, 2, 4))
    hue, _, saturation = colorsys.rgb_to_hls(red, green, blue)
    if saturation < 0.15:
        return "default"
    degrees = hue * 360
    if degrees < 20 or degrees >= 320:
        return "attention"
    return "warning" if degrees < 70 else "good" if degrees < 170 else "accent"


if __name__ == "__main__":
    kit.main(work)
