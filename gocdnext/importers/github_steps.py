"""The steps of a GitHub job as one script: what each step had of its own is put around it.

There every step is a process of its own, here one shell runs them all. So a step that changes folder, options or
environment runs in a subshell, and what steps hand on through files is picked up after each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gocdnext.importers import shell
from gocdnext.importers.conditions import ALWAYS, NEVER, Condition, unknown
from gocdnext.importers.conditions import shell as test_of
from gocdnext.importers.draft import Job
from gocdnext.importers.github_actions import Actions, Use, translate
from gocdnext.importers.github_context import Scope
from gocdnext.importers.reading import Part
from gocdnext.pipeline.nodes import Mapping
from gocdnext.pipeline.problems import quoted

_STATE = re.compile(r"\b(always|failure|cancelled)\s*\(\s*\)", re.IGNORECASE)
_READ_ENV = 'while IFS= read -r line; do export "$line"; done < "$GITHUB_ENV"'
_READ_PATH = 'while IFS= read -r line; do export PATH="$line:$PATH"; done < "$GITHUB_PATH"'
_USED = re.compile(r"\$\{?((?:GITHUB|RUNNER)_\w+)")
_OWN = ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
ALIASES = {
    "GITHUB_SHA": "${CI_COMMIT_SHA:-}",
    "GITHUB_REF_NAME": "${CI_BRANCH:-}",
    "GITHUB_HEAD_REF": "${CI_PULL_REQUEST_BRANCH:-}",
    "GITHUB_BASE_REF": "${CI_PULL_REQUEST_BASE:-}",
    "GITHUB_RUN_ID": "${CI_RUN_ID:-}",
    "GITHUB_RUN_NUMBER": "${CI_RUN_COUNTER:-}",
    "GITHUB_JOB": "${CI_JOB_NAME:-}",
    "GITHUB_WORKFLOW": "${CI_PIPELINE_NAME:-}",
    "GITHUB_WORKSPACE": "$PWD",
    "GITHUB_ACTIONS": "",
    "RUNNER_OS": "Linux",
    "RUNNER_TEMP": "${TMPDIR:-/tmp}",
}
"""What stands here for the variables that GitHub sets, as the shell writes it."""
MAX_STEPS = 1_000


@dataclass
class Steps:
    """Puts the steps of one job into its script."""

    job: Job
    scope: Scope
    actions: Actions
    default_shell: str
    folder: str
    allowed_to_fail: bool
    exports: dict[str, str] = field(default_factory=dict)
    """Folders of caches that were moved into the workspace, by variable."""

    def write(self, part: Part, outputs: list[str]) -> None:
        """`outputs` are lines for the very end, when everything went well."""
        texts: list[str] = []
        after: list[str] = []
        for node in part.items("steps")[:MAX_STEPS]:
            if isinstance(node, Mapping):
                self._step(Part(node, self.scope.notes), texts, after)
        preparation = [f'export {name}="$PWD/{folder}"' for name, folder in self.exports.items()]
        everything = "\n".join([*texts, *after])
        preparation += self._aliases(everything, part.line("steps"))
        if "GITHUB_STEP_SUMMARY" in everything:
            preparation.append("export GITHUB_STEP_SUMMARY=/dev/null")
        preparation += [
            f"{name}=$(mktemp)\nexport {name}" for name in ("GITHUB_ENV", "GITHUB_PATH") if name in everything
        ]
        ending = shell.ending(after, self.allowed_to_fail)
        self.job.script = [text for text in (ending, "\n".join(preparation), *texts, "\n".join(outputs)) if text]

    def _aliases(self, script: str, line: int) -> list[str]:
        """Lines that set what scripts look at and GitHub sets."""
        found = []
        for name in dict.fromkeys(_USED.findall(script)):
            if name in ALIASES:
                found.append(f'export {name}="{ALIASES[name]}"')
            elif name not in _OWN and name not in self.scope.secrets and name not in self.scope.env:
                advice = "GitHub sets it; give it a value under `variables`, or use another one"
                self.scope.notes.add(line, f"`${name}` in {self.scope.called}", advice)
        return found

    def _step(self, step: Part, texts: list[str], after: list[str]) -> None:
        scope, line = self.scope, step.node.line
        name = step.text("name") or step.text("id") or (step.text("uses") if "uses" in step else "")
        condition_text = step.text("if")
        state = {word.lower() for word in _STATE.findall(condition_text)}
        condition = scope.condition(condition_text) if condition_text else ALWAYS
        called = f"the step {quoted(name)}" if name else "a step"
        if condition == NEVER or unknown(condition):
            advice = "it never runs" if condition == NEVER else "its condition is not understood"
            scope.notes.add(step.line("if"), f"{called} of {scope.called}", f"{advice}; left out")
            return
        lines = self._use(step, bool(state), called, condition) if "uses" in step else self._run(step, called)
        if "timeout-minutes" in step:
            step.take("timeout-minutes")
            scope.notes.add(step.line("timeout-minutes"), f"`timeout-minutes` of {called}", "jobs have a `timeout`")
        step.skip("id", "env", "with")
        step.rest(f"{called} of {scope.called}", {})
        if not lines:
            return
        if condition != ALWAYS:
            lines = [f"if {test_of(condition)}; then", *lines, "fi"]
        title = f"# {_one_line(scope.shown(name))}" if name and "run" in step else ""
        if "GITHUB_OUTPUT" in step.text("run"):
            lines = ["GITHUB_OUTPUT=$(mktemp)\nexport GITHUB_OUTPUT", *lines]
        lines = [title, *lines] if title else lines
        if not state or state == {"cancelled"}:
            texts.append("\n".join([*lines, *self._handed_on(step)]))
            return
        scope.notes.add(line, f"{called} of {scope.called}", "it runs at the end of the job, from a trap of the shell")
        after += ['if [ "$code" -ne 0 ]; then', *lines, "fi"] if "failure" in state else lines

    def _use(self, step: Part, always: bool, called: str, condition: Condition) -> list[str]:
        action, _, version = step.text("uses").partition("@")
        if condition != ALWAYS:
            self.scope.notes.add(step.line("if"), f"the condition of {called} in {self.scope.called}",
                                 "what the action sets in the job is set in every run")  # fmt: skip
        use = Use(
            action=action, version=version, inputs=step.part("with"), line=step.node.line, job=self.job,
            scope=self.scope, actions=self.actions, always=always, exports=self.exports,
        )  # fmt: skip
        step.skip("continue-on-error")
        return translate(use)

    def _run(self, step: Part, called: str) -> list[str]:
        scope = self.scope
        run = scope.script(step.text("run"), step.line("run")).rstrip("\n")
        if not run.strip():
            return []
        run = re.sub(r"\bsudo\s+(?=apt-get\b|apt\b)", "", run) if self.job.image else run
        program = step.text("shell") or self.default_shell
        goes_on = step.flag("continue-on-error")
        commands = self._commands(run, program, goes_on, step, called)
        if not commands:
            return []
        env = step.part("env")
        before = []
        for key in env or ():
            assert env is not None
            value = scope.quoted(env.text(key), f"`{key}`", env.line(key))
            if value == f'"${{{key}}}"':
                continue  # the secret arrives under this name
            if shell.NAME.fullmatch(key):
                before.append(f"export {key}={value}")
            else:
                scope.notes.add(env.line(key), f"the variable {quoted(key)}", "no name for a variable; left out")
        folder = step.text("working-directory") or self.folder
        if folder and folder not in (".", "./"):
            before.append(f"cd {scope.quoted(folder, '`working-directory`', step.line('working-directory'))}")
        if before or shell.leaves_traces(run):
            return [shell.subshell([*before, *commands])]
        return commands

    def _commands(self, run: str, program: str, goes_on: bool, step: Part, called: str) -> list[str]:
        word = program.split()[0] if program.split() else ""
        piped = re.search(r"(?<!\|)\|(?!\|)", run) is not None
        if word in ("python", "python3"):
            interpreter = "python3"
        elif word not in ("", "sh", "bash"):
            advice = "there is no such shell on the agents; left out"
            self.scope.notes.add(step.line("shell"), f"the shell {quoted(program)} of {called}", advice)
            return []
        elif shell.needs_bash(run) or (word == "bash" and piped):
            interpreter = "bash -eo pipefail"
            if self.job.image:
                advice = "bash is called for it, so the image must have that"
                self.scope.notes.add(step.line("run"), f"{called} of {self.scope.called}", advice)
        elif goes_on:
            interpreter = "sh -e"
        else:
            return [run]
        allowed = " || echo 'The step failed, which is allowed here.'" if goes_on else ""
        return [shell.program(interpreter, run, allowed)]

    def _handed_on(self, step: Part) -> list[str]:
        """Lines after a step that pick up what it wrote for the following ones."""
        run, lines = step.text("run"), []
        if "GITHUB_ENV" in run:
            lines.append(_READ_ENV)
        if "GITHUB_PATH" in run:
            lines.append(_READ_PATH)
        if "GITHUB_OUTPUT" in run and step.text("id"):
            name = step.text("id")
            self.scope.steps.add(name)
            prefix = re.sub(r"\W", "_", f"STEP_{name}_")
            lines.append(
                "while IFS= read -r line; do\n"
                f'  export "{prefix}$(printf %s "${{line%%=*}}" | tr -c A-Za-z0-9_ _)=${{line#*=}}"\n'
                'done < "$GITHUB_OUTPUT"'
            )
        return lines


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:100]
