"""Computes the next version from the messages of the commits since the last one."""

import re
from typing import NamedTuple

import kit

SUBJECT = re.compile(r"(?P<kind>[a-zA-Z]+)(?:\([^()]*\))?(?P<breaking>!)?: *.+")
FOOTER = re.compile(r"^BREAKING[ -]CHANGE: ", re.MULTILINE)
NUMBER = r"(0|[1-9][0-9]{0,8})"
VERSION = re.compile(rf"{NUMBER}\.{NUMBER}\.{NUMBER}")
WORD = re.compile(r"[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*")
KINDS = ("major", "minor", "patch")


class Version(NamedTuple):
    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def next(self, kind: str) -> "Version":
        if kind == "major":
            return Version(self.major + 1, 0, 0)
        return Version(self.major, self.minor + 1, 0) if kind == "minor" else self._replace(patch=self.patch + 1)


def work() -> None:
    prefix = kit.text("prefix", "v")
    prefix = "" if prefix == "none" else prefix
    initial = parsed("initial", kit.text("initial", "0.1.0"))
    word = kit.text("pre-release")
    if word and not WORD.fullmatch(word):
        raise kit.InputError(f"`pre-release` is {kit.shown(word)}; write letters, digits and dashes, such as rc")
    forced = kit.choice("force-kind", (*KINDS, "none"), "none")
    prior = kit.text("prior-tag")
    output = kit.text("output", ".gocdnext/semver.env")
    tag, last = prior_version(prior, prefix) if prior else newest(prefix)
    kind, version = decide(tag, last, initial, forced)
    name = str(version)
    if word and kind != "none":
        name = f"{version}-{word}.{next_number(prefix, version, word)}"
    values = {"VERSION": name, "TAG": prefix + name, "PREVIOUS_TAG": tag, "BUMP": kind}
    kit.deliver(output, values)
    kit.say(f"{tag or 'no version yet'} -> {prefix}{name} ({kind})")


def decide(tag: str, last: Version | None, initial: Version, forced: str) -> tuple[str, Version]:
    """What kind of step it is, and the version after it."""
    if last is None:
        return "initial", initial
    messages = kit.git("log", "-z", "--format=%B", f"{tag}..HEAD", "--").split("\0")
    messages = [message.strip() for message in messages if message.strip()]
    kind = (
        forced if forced != "none" else min((weight(message) for message in messages), key=KINDS.index, default="none")
    )
    return kind, last if kind == "none" else last.next(kind)


def weight(message: str) -> str:
    subject, _, body = message.partition("\n")
    match = SUBJECT.fullmatch(subject)
    if (match and match["breaking"]) or FOOTER.search(body):
        return "major"
    return "minor" if match and match["kind"].lower() == "feat" else "patch"


def parsed(name: str, value: str) -> Version:
    match = VERSION.fullmatch(value)
    if not match:
        raise kit.InputError(f"`{name}` is {kit.shown(value)}; write a version such as 1.2.3")
    return Version(*map(int, match.groups()))


def prior_version(tag: str, prefix: str) -> tuple[str, Version]:
    version = parsed("prior-tag", tag.removeprefix(prefix).split("-", 1)[0])
    try:
        kit.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"refs/tags/{tag}^{{commit}}")
    except kit.FailedError:
        raise kit.InputError(f"`prior-tag` is {kit.shown(tag)}, and there is no such tag here") from None
    return tag, version


def newest(prefix: str) -> tuple[str, Version | None]:
    """The highest version among the tags that this commit descends from. Pre-releases do not count."""
    if kit.git("rev-parse", "--is-shallow-repository").strip() == "true":
        raise kit.FailedError(
            "the history of this checkout is cut off, so that versions cannot be told; fetch all of it"
        )
    found = []
    for tag in kit.git("tag", "--list", "--merged", "HEAD").splitlines():
        match = VERSION.fullmatch(tag.removeprefix(prefix)) if tag.startswith(prefix) else None
        if match:
            found.append((Version(*map(int, match.groups())), tag))
    if not found:
        return "", None
    version, tag = max(found)
    return tag, version


def next_number(prefix: str, version: Version, word: str) -> int:
    """The number after the highest one that is used by a tag of this pre-release, anywhere in the repository."""
    start = f"{prefix}{version}-{word}."
    used = [tag.removeprefix(start) for tag in kit.git("tag", "--list").splitlines() if tag.startswith(start)]
    return max((int(number) for number in used if re.fullmatch("[0-9]{1,9}", number)), default=0) + 1


if __name__ == "__main__":
    kit.main(work)
