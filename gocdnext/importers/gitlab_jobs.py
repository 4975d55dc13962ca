"""One GitLab job as one job of ours, or as one for each combination of its matrix."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from gocdnext import durations
from gocdnext.importers import gitlab_files, matrices, shell
from gocdnext.importers import gitlab_variables as variables
from gocdnext.importers.draft import Job, Service
from gocdnext.importers.gitlab_extends import Inheritance
from gocdnext.importers.gitlab_fixed import Fixed
from gocdnext.importers.gitlab_rules import Rules
from gocdnext.importers.notes import ImportRefusedError, Notes
from gocdnext.importers.reading import Part, text_of
from gocdnext.pipeline.context import ENVIRONMENT, RESERVED_PREFIXES
from gocdnext.pipeline.jobs import MAX_RETRY
from gocdnext.pipeline.nodes import Mapping, Scalar
from gocdnext.pipeline.problems import quoted
from gocdnext.pipeline.services import derived_name

_ADVICE = {
    "coverage": "a pattern on the log is not supported; use `artifacts: reports: coverage_report`",
    "release": "call the provider's API or command line from the script",
    "secrets": "list the names under `secrets` and store the values with the server",
    "resource_group": "`concurrency: serial` at the top lets one run of the pipeline at a time",
    "interruptible": "`supersede: branch` at the top cancels older runs",
    "pages": "publish the folder from the script",
    "inputs": "put the values in by hand",
    "run": "steps are not translated; write them as a `script`",
}
# The images of services whose settings GitLab passes on from the job's variables, and how those begin.
_SERVICE_PREFIXES = ("postgres", "mysql", "mariadb", "mongo", "redis", "rabbitmq", "minio", "elasticsearch")


MAX_SPENT = 200_000
"""Variables, commands and texts of all jobs together, those they share counted for each."""


class Need(msgspec.Struct, frozen=True):
    job: str
    artifacts: bool
    optional: bool
    line: int


@dataclass
class Shared:
    """What the jobs of one file have in common."""

    notes: Notes
    variables: dict[str, str]
    services: dict[str, Service]
    inheritance: Inheritance
    taken: set[str]
    spent: int = 0

    def spend(self, count: int, line: int) -> None:
        """Bounds the work for all jobs together. Raises `ImportRefusedError` when it is too much."""
        self.spent += count
        if self.spent > MAX_SPENT:
            raise ImportRefusedError("the jobs of this file are too many and too long together", line)


@dataclass
class Translated:
    """A job of the file, and what became of it. `needs` is resolved when all jobs are known."""

    name: str
    line: int
    stage: str
    rules: Rules
    jobs: list[Job]
    gates: list[Job] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    has_needs: bool = False
    dependencies: list[str] | None = None
    guarded: bool = False


class JobTranslator:
    def __init__(self, name: str, line: int, job: Part, rules: Rules, shared: Shared) -> None:
        self._name, self._line, self._job, self._rules, self._shared = name, line, job, rules, shared
        self._notes = shared.notes
        self._called = f"the job {quoted(name)}"

    def translate(self) -> Translated:
        job, notes = self._job, self._notes
        own = variables.declared(job.part("variables"), notes)
        needs, dependencies = self._needs(), job.texts("dependencies") if "dependencies" in job else None
        has_needs = "needs" in job
        if has_needs and not needs:
            notes.add(job.line("needs"), f"`needs: []` of {self._called}", "it waits for its stage here")
        entries, count = self._matrix()
        dimensions: dict[str, list[str]] = {}
        combinations: list[dict[str, str]] = [{}]
        taken = {*self._shared.variables, *own}
        if len(entries) == 1 and matrices.expressible(entries[0], taken) and not self._depends_on(entries[0]):
            dimensions = entries[0]
        elif entries:
            combinations = [found for entry in entries for found in matrices.product(entry, job.line("parallel"))]
            advice = "one job for each combination; `parallel: {matrix: …}` here cannot say this"
            notes.add(job.line("parallel"), f"the matrix of {self._called}", advice)
        translated = Translated(
            name=self._name, line=self._line, stage=job.text("stage") or "test", rules=self._rules, jobs=[],
            needs=needs, has_needs=has_needs, dependencies=dependencies,
        )  # fmt: skip
        for combination in combinations:
            made = self._build(translated.stage, {**own, **combination})
            made.name = (
                matrices.instance_name(self._name, combination, self._shared.taken) if combination else self._name
            )
            self._shared.taken.add(made.name)
            if count:
                dimensions = {"NODE_INDEX": [str(index) for index in range(1, count + 1)]}
                made.script.insert(0, f'export CI_NODE_INDEX="$NODE_INDEX" CI_NODE_TOTAL={count}')
            made.matrix = {name: list(values) for name, values in dimensions.items()}
            translated.jobs.append(made)
        if self._rules.manual:
            self._gate(translated)
        job.skip("stage", "extends", "rules", "when", "start_in", "manual_confirmation", "allow_failure")
        job.rest(self._called, _ADVICE)
        return translated

    def _gate(self, translated: Translated) -> None:
        name = matrices.instance_name(self._name, {"": "approval"}, self._shared.taken)
        gate = Job(name=name, stage=translated.stage, line=self._line)
        gate.approval = self._job.text("manual_confirmation") or f"Run {self._name}?"
        gate.remarks.append("Waits for somebody to approve; add `approvers` or `approver_groups` to say who may.")
        translated.gates.append(gate)
        for job in translated.jobs:
            job.needs.append(name)
        advice = f"a gate, `{name}`, comes before it; unlike there, the stage waits until somebody decides"
        self._notes.add(self._line, f"`when: manual` of {self._called}", advice)

    def _build(self, stage: str, own: dict[str, str]) -> Job:
        """One instance. `own` are the job's variables, those of a combination among them."""
        made = Job(name=self._name, stage=stage, line=self._line)
        self._known = {**self._shared.variables, **own}
        self._fixed = Fixed(self._called, self._known, self._notes)
        self._shared.spend(1 + len(self._known), self._line)
        exports = self._variables(made, own)
        self._image(made)
        self._services(made)
        self._script(made, exports)
        gitlab_files.artifacts(made, self._job, self._fixed)
        gitlab_files.caches(made, self._job, self._fixed)
        self._environment(made)
        self._limits(made)
        made.tags = self._fixed.plains("tags", self._job)
        self._tokens(made)
        return made

    def _tokens(self, made: Job) -> None:
        tokens = self._job.part("id_tokens")
        if tokens is None:
            return
        for name in tokens:
            token = tokens.part(name)
            audiences = [text for text in token.texts("aud") if text.strip()] if token is not None else []
            reserved = name.upper().startswith(RESERVED_PREFIXES)
            if audiences and shell.NAME.fullmatch(name) and not reserved and name not in self._known:
                made.id_tokens[name] = audiences
            else:
                advice = "it needs an `aud` and a name that no variable has; left out"
                self._notes.add(tokens.line(name), f"the token {quoted(name)} of {self._called}", advice)

    def _needs(self) -> list[Need]:
        found = []
        for node in self._job.items("needs"):
            if isinstance(node, Scalar):
                found.append(Need(text_of(node), True, False, node.line))
                continue
            if not isinstance(node, Mapping):
                continue
            part = Part(node, self._notes)
            if "project" in part or "pipeline" in part or "job" not in part:
                advice = "artifacts of other pipelines: `needs_artifacts: [{from_job: …, from_pipeline: …}]`"
                self._notes.add(node, f"a need of {self._called} on another pipeline", advice)
                continue
            artifacts = "artifacts" not in part or part.flag("artifacts")
            found.append(Need(part.text("job"), artifacts, part.flag("optional"), node.line))
            part.rest(f"a need of {self._called}", {"parallel": "it needs all instances here"})
        return found

    def _matrix(self) -> tuple[list[dict[str, list[str]]], int]:
        """The entries of `parallel: matrix`, or the number of `parallel: 5`."""
        node = self._job.take("parallel")
        if isinstance(node, Scalar):
            text = text_of(node)
            return [], int(text) if re.fullmatch(r"[1-9]\d{0,2}", text) else 0
        part = self._job.part("parallel")
        if part is None:
            return [], 0
        entries = []
        for item in part.items("matrix"):
            if isinstance(item, Mapping):
                entry = Part(item, self._notes)
                values = {name: entry.texts(name) for name in entry}
                entries.append({name: each for name, each in values.items() if each})
        return [entry for entry in entries if entry], 0

    def _depends_on(self, entry: dict[str, list[str]]) -> bool:
        """Whether something that has to be fixed beforehand refers to a dimension."""
        waiting = [node for key in self._job if key not in ("script", "before_script", "after_script", "parallel")
                   and (node := self._job.peek(key)) is not None]  # fmt: skip
        while waiting:
            self._shared.spend(1, self._line)
            node = waiting.pop()
            if isinstance(node, Scalar):
                if any(name in entry for name in variables.unresolved(node.value)):
                    return True
            elif isinstance(node, Mapping):
                waiting += [value for _, value in node.pairs]
            else:
                waiting += node.items
        return False

    def _variables(self, made: Job, own: dict[str, str]) -> dict[str, str]:
        """Sets the plain variables of the job; answers those that the shell has to work out."""
        exports = {}
        for name, value in {**self._shared.variables, **own}.items():
            text = variables.expanded(value, {key: each for key, each in self._known.items() if key != name})
            self._shared.spend(len(text) >> 7, self._line)
            if not variables.unresolved(text):
                if name in own:
                    made.variables[name] = text.replace("$$", "$")
            elif shell.NAME.fullmatch(name):
                exports[name] = text
            else:
                self._notes.add(self._line, f"the variable {quoted(name)}", "no name for a variable; left out")
        return exports

    def _image(self, made: Job) -> None:
        job = self._job
        if isinstance(job.take("image"), Mapping):
            part = job.part("image")
            assert part is not None
            made.image = self._fixed.plain("the image", part.text("name"), part.line("name"))
            part.rest(f"the image of {self._called}", {"entrypoint": "scripts run in a shell of the image here"})
        else:
            made.image = self._fixed.plain("the image", job.text("image"), job.line("image"))

    def _services(self, made: Job) -> None:
        for node in self._job.items("services"):
            part = Part(node, self._notes) if isinstance(node, Mapping) else None
            image = self._fixed.plain("the service", part.text("name") if part else text_of(node), node.line)
            if not image:
                continue
            if "dind" in image or derived_name(image) == "docker":
                made.docker = True
                continue
            service = Service(name=part.text("alias") if part else "", image=image)
            # GitLab names `team/search:1` after its whole path, with a dash.
            path = (
                image.split("@")[0].split(":")[0] if "/" not in image else re.sub(r":[^/]*$", "", image.split("@")[0])
            )
            service.name = (service.name.split(",")[0].split() or [path.replace("/", "-")])[0]
            if part is not None:
                service.env = variables.declared(part.part("variables"), self._notes)
                service.command = part.texts("command")
                part.rest(f"a service of {self._called}", {})
            prefix = derived_name(image).split("-")[0].lower()
            if prefix in _SERVICE_PREFIXES:
                names = [name for name in self._known if name.startswith(f"{prefix.upper()}_")]
                service.env = {name: variables.expanded(self._known[name], self._known) for name in names} | service.env
            self._share(service, node.line)

    def _share(self, service: Service, line: int) -> None:
        """Services stand beside every job here, so one name means one service."""
        first = self._shared.services.setdefault(service.name, service)
        if first != service:
            advice = "another job has a different one of that name; only the first is kept"
            self._notes.add(line, f"the service {quoted(service.name)} of {self._called}", advice)

    def _script(self, made: Job, exports: dict[str, str]) -> None:
        inheritance, job = self._shared.inheritance, self._job
        before, script, after = (inheritance.commands(job, key) for key in ("before_script", "script", "after_script"))
        commands = [*before, *script, *after]
        self._shared.spend(len(commands) + (sum(map(len, commands)) >> 3), self._line)
        # What rests on something that nobody sets here is exported only where the script asks for it.
        exports = {
            name: text
            for name, text in exports.items()
            if not variables.unset(variables.unresolved(text), self._known) or any(name in line for line in commands)
        }
        everything = [*commands, *exports.values()]
        aliases = [
            f'export {name}="{variables.ALIASES[name]}"'
            for name in variables.used(everything)
            if name in variables.ALIASES and name not in self._known
        ]
        for name in variables.unset(variables.used(everything), self._known):
            advice = "GitLab sets it; give it a value under `variables`, or use another one"
            self._notes.add(job.line("script"), f"`${name}` in {self._called}", advice)
        bash = next((found for text in everything if (found := shell.needs_bash(text))), "")
        if bash:
            advice = "scripts run with `sh` here; call `bash` for it, or write it differently"
            self._notes.add(job.line("script"), f"{quoted(bash)} in the script of {self._called}", advice)
        allowed = self._allow_failure()
        ending = shell.ending(after, allowed)
        if after:
            advice = "it runs from a trap of the shell, so the script must not set one for EXIT"
            self._notes.add(job.line("after_script"), f"`after_script` of {self._called}", advice)
        preparation = "\n".join([*aliases, *(shell.export(name, text) for name, text in exports.items())])
        made.script = [text for text in (ending, preparation, *before, *script) if text]

    def _allow_failure(self) -> bool:
        job = self._job
        if isinstance(job.take("allow_failure"), Mapping):
            advice = "only some exit codes cannot be allowed; test `$?` in the script"
            self._notes.add(job.line("allow_failure"), f"`allow_failure` of {self._called}", advice)
            return False
        return job.flag("allow_failure") or (self._rules.allow_failure and not self._rules.manual)

    def _environment(self, made: Job) -> None:
        job, node = self._job, self._job.take("environment")
        part = job.part("environment") if isinstance(node, Mapping) else None
        text, action = (part.text("name"), part.text("action")) if part else (job.text("environment"), "")
        if part is not None:
            part.skip("url", "deployment_tier", "kubernetes")
            part.rest(f"`environment` of {self._called}", {"on_stop": "run the job that stops it by hand"})
        if not text:
            return
        name = self._fixed.plain("the environment", text, job.line("environment")).replace("/", "-")
        if not ENVIRONMENT.fullmatch(name):
            if name:
                advice = "letters, digits, `.`, `_` and `-` make a name; left out"
                self._notes.add(job.line("environment"), f"the environment {quoted(name)} of {self._called}", advice)
        elif action in ("", "start"):
            made.deploy = name
        else:
            made.environment = name

    def _limits(self, made: Job) -> None:
        job = self._job
        text = job.text("timeout")
        if text:
            seconds = durations.retention(text)
            if seconds:
                hours, rest = divmod(seconds, 3600)
                made.timeout = "".join(
                    f"{n}{unit}" for n, unit in ((hours, "h"), (rest // 60, "m"), (rest % 60, "s")) if n
                )
            else:
                self._notes.add(job.line("timeout"), f"`timeout: {text}` of {self._called}", "write `1h30m`")
        node = job.take("retry")
        if isinstance(node, Mapping):
            part = Part(node, self._notes)
            count = part.text("max") or "2"
            part.rest("`retry`", {"when": "it is repeated after every failure"})
        else:
            count = text_of(node) if node is not None else "0"
        made.retry = min(int(count), MAX_RETRY) if re.fullmatch(r"\d{1,3}", count) else 0
