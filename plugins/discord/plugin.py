"""Posts a message to a Discord webhook."""

import kit
import kit_http

LONGEST = 2000
HINTS = {401: "the webhook's token is wrong", 404: "the webhook is gone; make a new one"}


def work() -> None:
    webhook = kit_http.webhook()
    content = kit.block("content", kit.about())
    body: dict[str, object] = {
        "content": kit.cut(content, LONGEST),
        "tts": kit.flag("tts", False),
        # Branch names and titles come from outside: nobody is to be woken by `@everyone` in one.
        "allowed_mentions": {"parse": []},
    }
    looks = {"username": kit.text("username"), "avatar_url": kit.text("avatar")}
    body |= {name: value for name, value in looks.items() if value}
    # Without `wait` Discord answers before it has looked at the message.
    answer = kit_http.Http().send("POST", webhook, params={"wait": "true"}, json=body)
    answer.expect("Discord did not take the message", HINTS)
    kit.say("the message was posted")


if __name__ == "__main__":
    kit.main(work)
