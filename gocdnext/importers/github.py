"""A GitHub workflow as a pipeline of ours: all jobs in one stage, `ci`, because there they start as soon as their needs
are done. Stages here are barriers; one stage with `needs` keeps the graph exactly. Pure.
"""

from __future__ import annotations

import re

from gocdnext.importers import shell
from gocdnext.importers.conditions import ALWAYS, NEVER, Condition, Unknown, Variable, atoms, every, unknown
from gocdnext.importers.draft import Draft, Job, Service
from gocdnext.importers.emit import MAX_TEXT, file_name, finish
from gocdnext.importers.github_actions import Actions, connect
from gocdnext.importers.github_context import Scope
from gocdnext.importers.github_matrix import Matrix
from gocdnext.importers.github_steps import Steps
from gocdnext.importers.github_triggers import Triggers
from gocdnext.importers.matrices import instance_name
from gocdnext.importers.notes import Imported, ImportRefusedError, Notes
from gocdnext.importers.reading import Part, text_of, translate_file
from gocdnext.pipeline.context import ENVIRONMENT
from gocdnext.pipeline.job_parts import ALIAS
from gocdnext.pipeline.nodes import Mapping, Scalar
from gocdnext.pipeline.problems import quoted
from gocdnext.pipeline.services import derived_name

STAGE = "ci"
MAX_SPENT = 50_000
"""Variables and steps of all jobs together, those they share counted for each."""

_JOB_ADVICE = {
    "permissions": "jobs get no token of the provider; list what they need under `secrets`, or use `id_tokens`",
    "concurrency": "a whole pipeline can be serial: `concurrency: serial`",
}
_HOSTED = re.compile(r"(ubuntu|windows|macos)(-.*)?")


def import_github(text: str | bytes, filename: str) -> Imported:
    """Translates the text of a workflow. Raises `ImportRefusedError` when nothing useful comes out."""
    return translate_file(text, lambda root, notes: _Workflow(root, filename, notes).translate())


class _Workflow:
    def __init__(self, root: Part, filename: str, notes: Notes) -> None:
        self._root, self._notes = root, notes
        base = filename.replace("\\", "/").rsplit("/", 1)[-1]
        self._draft = Draft(name=file_name(base.removesuffix(".yml").removesuffix(".yaml")), source=base)
        self._draft.stages = [STAGE]
        self._actions = Actions()
        self._env: dict[str, tuple[str, int]] = {}
        self._taken: set[str] = set()
        self._made: dict[str, list[Job]] = {}
        self._conditions: dict[str, Condition] = {}
        self._outputs: dict[str, dict[str, str]] = {}
        self._references: dict[str, tuple[str, str]] = {}
        """Variables with outputs of needed jobs: the job, and what they are set to."""
        self._spent = self._written = 0

    def translate(self) -> Imported:
        root, draft, notes = self._root, self._draft, self._notes
        self._triggers = Triggers(root, draft, notes)
        self._triggers.read()
        title = root.text("name")
        if title and "${{" not in title:
            draft.title = title.replace(":", " -")
        self._concurrency()
        env = root.part("env")
        for name in env or ():
            assert env is not None
            self._env[name] = (env.text(name), env.line(name))
            if "${{" not in env.text(name):
                draft.variables[name] = env.text(name)
        defaults = root.part("defaults")
        self._run = _run_defaults(defaults)
        jobs = root.part("jobs")
        if jobs is None:
            raise ImportRefusedError("the file has no `jobs`: is it a workflow?")
        root.skip("run-name", "permissions")
        root.rest("the workflow", _JOB_ADVICE)
        self._taken = set(jobs)
        for name in self._ordered(jobs):
            self._job(name, jobs)
        connect(self._actions, notes.add)
        return finish(draft, notes)

    def _concurrency(self) -> None:
        root = self._root
        if "concurrency" not in root:
            return
        part = root.part("concurrency") if isinstance(root.peek("concurrency"), Mapping) else None
        root.skip("concurrency")
        if part is not None and part.text("cancel-in-progress") not in ("", "false"):
            self._draft.supersede = "branch"
            self._notes.add(root.line("concurrency"), "`concurrency`", "a new run cancels the older ones of its branch")
        else:
            self._draft.serial = True
            self._notes.add(root.line("concurrency"), "`concurrency`", "one run of this pipeline at a time")

    def _ordered(self, jobs: Part) -> list[str]:
        """Names so that needs come first: their outputs and conditions are known then. Circles stay in file order."""
        needs = {}
        for name in jobs:
            node = jobs.take(name)
            needs[name] = Part(node, self._notes).texts("needs") if isinstance(node, Mapping) else []
        done: dict[str, None] = {}
        for name in jobs:
            stack = [(name, iter(needs[name]))]
            seen = {name}
            while stack:
                current, rest = stack[-1]
                following = next((each for each in rest if each in needs and each not in seen), None)
                if following is None:
                    done.setdefault(current)
                    stack.pop()
                elif following not in done:
                    seen.add(following)
                    stack.append((following, iter(needs[following])))
        return list(done)

    def _job(self, name: str, jobs: Part) -> None:
        node, line, notes = jobs.take(name), jobs.line(name), self._notes
        called = f"the job {quoted(name)}"
        if not isinstance(node, Mapping):
            notes.add(line, called, "it is no mapping; left out")
            return
        job = Part(node, notes)
        if "uses" in job:
            advice = "reusable workflows are not read; translate that file and put its jobs in here"
            notes.add(job.line("uses"), f"{called}: {quoted(job.text('uses'))}", advice)
            return
        if name.startswith(".") or "steps" not in job:
            notes.add(line, called, "it has no `steps`; left out")
            return
        needs = self._needs(job, called)
        taken = {*self._draft.variables, *job.map("env")}
        matrix = Matrix(job, called, taken)
        condition: Condition = ALWAYS
        found = []
        for combination in matrix.combinations:
            made = Job(name=name, stage=STAGE, line=line)
            if combination:
                made.name = instance_name(name, combination, self._taken)
            made.needs = [each.name for need in needs for each in self._made[need]]
            scope = Scope(notes=notes, called=called, matrix=combination, inputs=self._triggers.inputs)
            scope.dimensions = {key: matrix.names[key] for key in matrix.dimensions}
            scope.outputs = {need: self._outputs.get(need, {}) for need in needs}
            made.matrix = {matrix.names[key]: values for key, values in matrix.dimensions.items()}
            condition = self._fill(made, job, scope, needs)
            found.append(made)
        if condition == NEVER:
            notes.add(line, called, "it never runs; left out")
            return
        job.skip("needs", "if", "name", "outputs", "strategy", "continue-on-error")
        job.rest(called, _JOB_ADVICE)
        self._made[name] = found
        self._conditions[name] = condition
        if len(found) > 1 or matrix.dimensions:
            self._outputs.pop(name, None)
        self._draft.jobs += found

    def _needs(self, job: Part, called: str) -> list[str]:
        found = []
        for need in dict.fromkeys(job.texts("needs")):
            if need in self._made:
                found.append(need)
            else:
                self._notes.add(job.line("needs"), f"the need of {called} for {quoted(need)}", "it was not translated")
        return found

    def _fill(self, made: Job, job: Part, scope: Scope, needs: list[str]) -> Condition:
        """Everything of one instance; answers when it runs."""
        self._spent += 1 + len(self._env) + len(job.items("steps"))
        if self._spent > MAX_SPENT:
            raise ImportRefusedError("the jobs of this file are too many and too long together", made.line)
        title = job.text("name")
        if title and title != made.name and "${{" not in title:
            made.remarks.append(title)
        self._variables(made, job, scope)
        self._machine(made, job, scope)
        self._container(made, job, scope)
        self._services(job, scope)
        minutes = scope.plain(job.text("timeout-minutes"), "`timeout-minutes`", job.line("timeout-minutes"))
        if re.fullmatch(r"[1-9]\d{0,5}", minutes):
            made.timeout = f"{minutes}m"
        condition = self._condition(job, scope, needs)
        defaults = {**self._run, **_run_defaults(job.part("defaults"))}
        steps = Steps(
            job=made, scope=scope, actions=self._actions, default_shell=defaults.get("shell", ""),
            folder=defaults.get("working-directory", ""), allowed_to_fail=job.flag("continue-on-error"),
        )  # fmt: skip
        steps.write(job, [])
        made.script += self._write_outputs(made, job, scope)
        if not made.script:
            # It still has to be a job that others can need.
            made.script = ["true"]
            self._notes.add(made.line, scope.called, "nothing is left of its steps; it does nothing")
        elif not made.image and _HOSTED.match(" ".join(job.texts("runs-on")).lower()):
            advice = "it has no `image`: the tools of GitHub's machines are there only if the agent has them"
            self._notes.add(job.line("runs-on"), f"the machine of {scope.called}", advice)
        self._environment(made, job, scope)
        self._inherit(made, condition, scope)
        made.variables |= scope.needed
        made.secrets = [name for name in scope.secrets if name not in made.matrix]
        self._guard(made, condition)
        self._written += sum(map(len, made.script))
        if self._written > MAX_TEXT:
            raise ImportRefusedError("the scripts of this file are too long together", made.line)
        return condition

    def _inherit(self, made: Job, condition: Condition, scope: Scope) -> None:
        """A condition that came with a need may look at outputs of jobs further up: this job needs those too."""
        for name, text in scope.needed.items():
            self._references[name] = text.split(".")[1], text
        for part, _ in atoms(condition):
            if isinstance(part, Variable) and part.name in self._references and part.name not in scope.needed:
                job, text = self._references[part.name]
                scope.needed[part.name] = text
                made.needs += [each.name for each in self._made.get(job, [])]

    def _variables(self, made: Job, job: Part, scope: Scope) -> None:
        scope.env = dict(self._draft.variables)
        env = job.part("env")
        own = {name: (env.text(name), env.line(name)) for name in env} if env is not None else {}
        for name, (text, line) in {**self._env, **own}.items():
            if name not in own and "${{" not in text:
                continue
            if text.strip().removeprefix("${{").removesuffix("}}").strip() == f"secrets.{name}":
                scope.value(f"secrets.{name}")
                scope.secrets.append(name)
                scope.env.pop(name, None)
                continue
            value = scope.setting(text, f"the variable {quoted(name)}", line)
            if value is not None:
                scope.env[name] = made.variables[name] = value

    def _machine(self, made: Job, job: Part, scope: Scope) -> None:
        """`runs-on`: GitHub's own machines become Linux agents, labels of others become tags."""
        node, line = job.take("runs-on"), job.line("runs-on")
        labels = job.texts("runs-on") if not isinstance(node, Mapping) else []
        if isinstance(node, Mapping):
            part = Part(node, self._notes)
            labels = part.texts("labels")
            part.rest(f"`runs-on` of {scope.called}", {"group": "choose agents by their tags"})
        for label in labels:
            text = scope.plain(label, "`runs-on`", line)
            hosted = _HOSTED.fullmatch(text.lower())
            if hosted and hosted[1] == "ubuntu":
                continue
            if hosted:
                made.tags.append(hosted[1])
                advice = f"it waits for an agent with the tag `{hosted[1]}`; agents run on Linux"
                self._notes.add(line, f"`runs-on: {text}` of {scope.called}", advice)
            elif text and text.lower() not in ("self-hosted", "linux", "x64"):
                made.tags.append(text)

    def _container(self, made: Job, job: Part, scope: Scope) -> None:
        line = job.line("container")
        if isinstance(job.take("container"), Mapping):
            part = job.part("container")
            assert part is not None
            made.image = scope.plain(part.text("image"), "the image", line)
            env = part.part("env")
            for name in env or ():
                assert env is not None
                value = scope.setting(env.text(name), f"the variable {quoted(name)}", env.line(name))
                if value is not None:
                    made.variables.setdefault(name, value)
            part.rest(f"the container of {scope.called}", {"credentials": "registries are set up on the agent"})
        else:
            made.image = scope.plain(job.text("container"), "the image", line)

    def _services(self, job: Part, scope: Scope) -> None:
        services = job.part("services")
        for name in services or ():
            assert services is not None
            node = services.take(name)
            part = Part(node, self._notes) if isinstance(node, Mapping) else None
            text = part.text("image") if part is not None else text_of(node) if isinstance(node, Scalar) else ""
            image = scope.plain(text, "the image of a service", services.line(name))
            if not image or not derived_name(image):
                continue
            env = part.map("env") if part is not None else {}
            line = services.line(name)
            fixed = {key: scope.plain(value, f"`{key}`", line) for key, value in env.items()}
            service = Service(name=name, image=image, env=fixed)
            first = self._draft.services.setdefault(name, service)
            if first != service:
                advice = "services stand beside every job; only the first of that name is kept"
                self._notes.add(line, f"the service {quoted(name)} of {scope.called}", advice)
            if part is not None:
                if "ports" in part and "container" not in job:
                    part.skip("ports")
                    advice = f"it is reached as `{name}`, not as `localhost`"
                    self._notes.add(part.line("ports"), f"the service {quoted(name)} of {scope.called}", advice)
                part.skip("ports")
                part.rest(f"the service {quoted(name)}", {"options": "wait in the script until the service answers"})

    def _condition(self, job: Part, scope: Scope, needs: list[str]) -> Condition:
        text = job.text("if")
        own = scope.condition(text) if text else ALWAYS
        state = set(re.findall(r"\b(always|failure|cancelled)\s*\(", text))
        if "failure" in state and "always" not in state:
            own = Unknown(text)
            advice = "a job does not run after a failure; `notifications: [{on: failure, uses: …}]` does"
            self._notes.add(job.line("if"), f"`if: {text}` of {scope.called}", advice)
        elif state:
            advice = "it does not run when a job that it needs has failed"
            self._notes.add(job.line("if"), f"`if: {text}` of {scope.called}", advice)
        elif needs:
            own = every(own, *(self._conditions[need] for need in needs))
        return own

    def _write_outputs(self, made: Job, job: Part, scope: Scope) -> list[str]:
        outputs = job.part("outputs")
        lines = []
        known: dict[str, str] = {}
        for name in outputs or ():
            assert outputs is not None
            alias = re.sub(r"[^a-zA-Z0-9_-]", "-", name)
            alias = alias[:1].lower() + alias[1:]
            variable = re.sub(r"\W", "_", f"OUT_{name}").upper()
            if not ALIAS.fullmatch(alias) or alias in made.outputs or variable in made.outputs.values():
                self._notes.add(outputs.line(name), f"the output {quoted(name)}", "no name for it here; left out")
                continue
            value = scope.quoted(outputs.text(name), f"the output {quoted(name)}", outputs.line(name))
            made.outputs[alias] = variable
            known[name] = alias
            lines.append(f"printf '{variable}=%s\\n' {value} >> \"$GOCDNEXT_OUTPUT_FILE\"")
        self._outputs[made.name] = known
        return ["\n".join(lines)] if lines else []

    def _environment(self, made: Job, job: Part, scope: Scope) -> None:
        line = job.line("environment")
        if isinstance(job.take("environment"), Mapping):
            part = job.part("environment")
            text = part.text("name") if part is not None else ""
        else:
            text = job.text("environment")
        name = scope.plain(text, "the environment", line).replace("/", "-").replace(" ", "-")
        if not text:
            return
        if ENVIRONMENT.fullmatch(name):
            made.deploy = name
            advice = "if people have to approve there, put a job with `approval: {}` before it and need that"
            self._notes.add(line, f"the environment {quoted(name)} of {scope.called}", advice)
        elif name:
            advice = "letters, digits, `.`, `_` and `-` make a name; left out"
            self._notes.add(line, f"the environment {quoted(name)} of {scope.called}", advice)

    def _guard(self, made: Job, own: Condition) -> None:
        condition = every(self._triggers.condition, own)
        lines, switch = shell.guard(condition, shell.switch_name(made.name))
        if not lines:
            return
        if switch:
            said = "; ".join(dict.fromkeys(unknown(condition)))
            advice = f"not understood, so the job does nothing unless the variable {switch} is `true`"
            self._notes.add(made.line, f"the condition {quoted(said, 120)} of {quoted(made.name)}", advice)
        if made.outputs:
            empty = "".join(f"  echo '{name}=' >> \"$GOCDNEXT_OUTPUT_FILE\"\n" for name in made.outputs.values())
            lines = lines.replace("  exit 0\n", f"{empty}  exit 0\n")
        made.script.insert(0, lines)
        if own != ALWAYS:
            made.optional = [*made.required, *made.optional]
            made.required = []
            self._actions.skipped.add(made.name)


def _run_defaults(part: Part | None) -> dict[str, str]:
    run = part.part("run") if part is not None else None
    return {key: run.text(key) for key in ("shell", "working-directory") if key in run} if run is not None else {}
