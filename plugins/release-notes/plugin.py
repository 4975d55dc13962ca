"""Writes a list of changes between two commits from their messages."""

import re
from typing import NamedTuple

import kit

HEADINGS = {
    "feat": "Features",
    "fix": "Fixes",
    "perf": "Performance",
    "refactor": "Refactoring",
    "docs": "Documentation",
    "test": "Tests",
    "build": "Build",
    "ci": "Build",
    "chore": "Chores",
    "revert": "Reverts",
}
BREAKING, OTHERS = "Breaking changes", "Other changes"
SUBJECT = re.compile(r"(?P<kind>[a-zA-Z]+)(?:\((?P<scope>[^()]*)\))?(?P<breaking>!)?: *(?P<text>.+)")
FOOTER = re.compile(r"^BREAKING[ -]CHANGE: ", re.MULTILINE)


class Change(NamedTuple):
    commit: str
    subject: str
    body: str


def work() -> None:
    to = commit_of("to", kit.text("to", "HEAD"))
    since = kit.text("from")
    start = commit_of("from", since) if since else previous_tag(to)
    output = kit.text("output", "RELEASE_NOTES.md")
    form = kit.choice("format", ("plain", "conventional"), "plain")
    heading = kit.text("heading")
    found = changes(start, to)
    lines = [f"# {heading}", ""] if heading else []
    lines += conventional(found) if form == "conventional" else [line(change.subject, change) for change in found]
    if not found:
        lines.append("No changes.")
    text = "\n".join(lines).rstrip("\n") + "\n"
    kit.write(output, text)
    kit.say(f"{len(found)} change(s) since {since or start or 'the beginning'}, written to {output}:")
    print(text, end="", flush=True)


def commit_of(name: str, revision: str) -> str:
    try:
        return kit.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    except kit.FailedError:
        raise kit.InputError(f"`{name}` is {kit.shown(revision)}, and there is no such commit here") from None


def previous_tag(to: str) -> str:
    """The newest tag that is older than the commit; empty when there is none."""
    try:
        return kit.git("describe", "--tags", "--abbrev=0", f"{to}^").strip()
    except kit.FailedError:
        return ""


def changes(start: str, to: str) -> list[Change]:
    """Newest first."""
    span = f"{start}..{to}" if start else to
    told = kit.git("log", "-z", "--no-merges", "--format=%h%x1f%s%x1f%b", span, "--")
    return [Change(*entry.split("\x1f", 2)) for entry in told.split("\0") if entry.count("\x1f") >= 2]


def conventional(found: list[Change]) -> list[str]:
    """The changes under their headings; a heading without changes is left out."""
    sections: dict[str, list[str]] = {}
    for change in found:
        match = SUBJECT.fullmatch(change.subject)
        kind = match["kind"].lower() if match else ""
        heading = HEADINGS.get(kind, OTHERS)
        text = change.subject
        if match and kind in HEADINGS:
            text = f"**{match['scope']}:** {match['text']}" if match["scope"] else match["text"]
        if (match and match["breaking"]) or FOOTER.search(change.body):
            heading = BREAKING
        sections.setdefault(heading, []).append(line(text, change))
    lines: list[str] = []
    for heading in dict.fromkeys([BREAKING, *HEADINGS.values(), OTHERS]):
        if heading in sections:
            lines += [f"## {heading}", "", *sections[heading], ""]
    return lines


def line(text: str, change: Change) -> str:
    return f"- {text} ({change.commit})"


if __name__ == "__main__":
    kit.main(work)
