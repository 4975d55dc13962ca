"""Posts a message to a Slack incoming webhook."""

import kit
import kit_http

LONGEST = 40_000
"""Characters after which Slack cuts a message itself."""
HINTS = {
    403: "the webhook may not post there any more; look at the app's settings in Slack",
    404: "the webhook or its channel is gone; make a new one",
    410: "the channel is archived",
}


def work() -> None:
    webhook = kit_http.webhook()
    channel = kit.text("channel")
    message = kit.block("template", kit.about())
    body = {"text": kit.cut(message, LONGEST)} | ({"channel": channel} if channel else {})
    kit_http.Http().send("POST", webhook, json=body).expect("Slack did not take the message", HINTS)
    kit.say("the message was posted")


if __name__ == "__main__":
    kit.main(work)
