"""What starts a GitHub workflow, as `when` and materials of ours."""

from __future__ import annotations

import re

from gocdnext.importers.conditions import ALWAYS, Condition, Not, Tag, some
from gocdnext.importers.draft import Draft
from gocdnext.importers.notes import Notes
from gocdnext.importers.reading import Part
from gocdnext.pipeline import globs
from gocdnext.pipeline.nodes import Mapping
from gocdnext.pipeline.problems import quoted

_ADVICE = {
    "workflow_call": "a workflow for others: translate the workflow that calls it, and put these jobs into it",
    "workflow_run": "`materials: [{upstream: {pipeline: …, stage: …}}]` starts a pipeline after another",
    "release": "use the event `tag`: a release makes one",
    "merge_group": "there are no merge queues; use `pull_request`",
}
_PULL_REQUEST_TYPES = {"opened", "synchronize", "reopened"}


class Triggers:
    """Reads `on` into a draft. `condition` is what `when` cannot say, for every job to look at."""

    def __init__(self, root: Part, draft: Draft, notes: Notes) -> None:
        self._root, self._draft, self._notes = root, draft, notes
        self.condition: Condition = ALWAYS
        self.inputs: dict[str, str] = {}
        """Inputs of a start by hand: name to variable."""

    def read(self) -> None:
        node = self._root.take("on")
        if not isinstance(node, Mapping):
            for name in self._root.texts("on"):
                self._event(name, None, self._root.line("on"))
        else:
            part = Part(node, self._notes)
            for name in part:
                if name == "schedule":
                    self._schedule(part)
                    continue
                value = part.take(name)
                below = Part(value, self._notes) if isinstance(value, Mapping) else None
                self._event(name, below, part.line(name))
        if not self._draft.events:
            # Without a word about events a push would start it.
            self._draft.events = ["cron"] if self._draft.crons else ["manual"]

    def _event(self, name: str, part: Part | None, line: int) -> None:
        if name == "push":
            self._push(part, line)
        elif name in ("pull_request", "pull_request_target"):
            self._pull_request(name, part, line)
        elif name == "workflow_dispatch":
            self._draft.events.append("manual")
            self._inputs(part)
        else:
            self._notes.add(line, f"the event {quoted(name)}", _ADVICE.get(name, "nothing here happens then; left out"))

    def _push(self, part: Part | None, line: int) -> None:
        tags = part.texts("tags") if part is not None else []
        branches = self._branches(part)
        ignored = part is not None and ("branches-ignore" in part or "paths-ignore" in part or "tags-ignore" in part)
        if tags:
            self._draft.events.append("tag")
            self._tags(tags, part.line("tags") if part is not None else line)
        if branches is not None or not tags:
            self._draft.events.append("push")
        if branches is None and not tags:
            advice = "pushes to the default branch start it; list more branches in `when: {branch: […]}`"
            self._notes.add(line, "pushes to every branch", advice)
        if ignored:
            self._draft.events.append("push")
        self._paths(part)
        if part is not None:
            part.rest("`push`", {"branches-ignore": "`when: {branch: […]}` lists the branches that count"})

    def _pull_request(self, name: str, part: Part | None, line: int) -> None:
        self._draft.events.append("pull_request")
        if name == "pull_request_target":
            advice = "the pipeline of a pull request is that of its base, unless the project trusts its own branches"
            self._notes.add(line, quoted(name), advice)
        self._branches(part)
        self._paths(part)
        if part is None:
            return
        types = set(part.texts("types"))
        if types - _PULL_REQUEST_TYPES:
            said = ", ".join(sorted(types - _PULL_REQUEST_TYPES))
            self._notes.add(part.line("types"), f"the types {quoted(said)}", "a pull request starts it when it changes")
        part.rest(f"`{name}`", {"branches-ignore": "`when: {branch: […]}` lists the branches that count"})

    def _branches(self, part: Part | None) -> list[str] | None:
        """Exact names; patterns cannot be said. None when there is no limit."""
        if part is None or "branches" not in part:
            return None
        names = part.texts("branches")
        plain = [name for name in names if not re.search(r"[*?+\[\]!]", name)]
        for name in names:
            if name not in plain:
                advice = "`when: {branch: […]}` takes exact names; list the branches there"
                self._notes.add(part.line("branches"), f"the branches {quoted(name)}", advice)
        self._draft.branches += [name for name in plain if name not in self._draft.branches]
        return names

    def _tags(self, tags: list[str], line: int) -> None:
        """Tags by GitHub's patterns; `when` has none, so the jobs look at the tag."""
        if any(tag in ("*", "**") for tag in tags):
            return
        found: list[Condition] = []
        for tag in tags:
            if re.search(r"[?+\[\]!\\]", tag) or "*" in tag.replace("**", "").rstrip("*"):
                regex = _regex(tag)
                if regex is None:
                    advice = "no tag of this pattern starts it; look at `$CI_TAG_NAME` in the scripts"
                    self._notes.add(line, f"the tags {quoted(tag)}", advice)
                else:
                    found.append(Tag(regex, regex=True))
            else:
                found.append(Tag(tag.replace("**", "*")))
        self.condition = some(Not(Tag("*")), *found)

    def _paths(self, part: Part | None) -> None:
        if part is None:
            return
        for path in part.texts("paths"):
            if path.startswith(("!", "/")) or ".." in path.split("/") or not path or globs.flaw(path):
                self._notes.add(part.line("paths"), f"the paths {quoted(path)}", "only paths that count can be listed")
            elif path not in self._draft.paths:
                self._draft.paths.append(path)

    def _schedule(self, part: Part) -> None:
        for node in part.items("schedule"):
            expression = Part(node, self._notes).text("cron") if isinstance(node, Mapping) else ""
            if expression:
                self._draft.crons.append(expression)
        if self._draft.crons:
            self._draft.events.append("cron")
            self._notes.add(part.line("schedule"), "`schedule`", "times are in the time zone of the server, not UTC")

    def _inputs(self, part: Part | None) -> None:
        inputs = part.part("inputs") if part is not None else None
        if inputs is None:
            return
        for name in inputs:
            node = inputs.take(name)
            default = Part(node, self._notes).text("default") if isinstance(node, Mapping) else ""
            variable = "INPUT_" + re.sub(r"\W", "_", name).upper()
            self.inputs[name] = variable
            if "${{" not in default:
                self._draft.variables[variable] = default
            advice = f"a start by hand has no inputs; the variable {variable} has its default"
            self._notes.add(inputs.line(name), f"the input {quoted(name)}", advice)


def _regex(pattern: str) -> str | None:
    """A filter pattern of GitHub as an extended regular expression; None for exceptions (`!`)."""
    if pattern.startswith("!"):
        return None
    found, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**", at):
            found.append(".*")
            at += 1
        elif char == "*":
            found.append("[^/]*")
        elif char == "[":
            end = pattern.find("]", at)
            if end < 0 or not re.fullmatch(r"[\w-]+", pattern[at + 1 : end]):
                return None
            found.append(pattern[at : end + 1])
            at = end
        elif char in "?+":
            found.append(char)
        else:
            found.append(re.sub(r"([.^$(){}|\\])", r"\\\1", char))
        at += 1
    return f"^{''.join(found)}$"
