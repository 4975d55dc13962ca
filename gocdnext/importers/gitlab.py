"""`.gitlab-ci.yml` as a pipeline of ours: the file as a whole. One job is the business of `gitlab_jobs`.

`extends`, `default` and anchors are resolved, so every job of the result stands for itself. Pure.
"""

from __future__ import annotations

from gocdnext.importers import gitlab_variables as variables
from gocdnext.importers import shell
from gocdnext.importers.conditions import (
    ALWAYS,
    ANY_BRANCH,
    DEFAULT_BRANCH,
    NEVER,
    Branch,
    Condition,
    Event,
    Tag,
    When,
    as_when,
    assuming,
    atoms,
    every,
    unknown,
)
from gocdnext.importers.draft import Draft
from gocdnext.importers.emit import file_name, finish
from gocdnext.importers.gitlab_extends import Inheritance
from gocdnext.importers.gitlab_jobs import JobTranslator, Shared, Translated
from gocdnext.importers.gitlab_rules import job_rules, workflow_rules
from gocdnext.importers.notes import Imported, ImportRefusedError, Notes
from gocdnext.importers.reading import Part, translate_file
from gocdnext.pipeline.nodes import Mapping
from gocdnext.pipeline.problems import quoted

DEFAULT_STAGES = ("build", "test", "deploy")
FIRST, LAST = ".pre", ".post"
_DEFAULTS = (
    "image", "services", "before_script", "after_script", "cache", "tags", "retry", "timeout", "artifacts", "id_tokens",
)  # fmt: skip
_GLOBAL = ("image", "services", "before_script", "after_script", "cache")
_KEYWORDS = frozenset(("stages", "variables", "workflow", "include", "default", "spec", "types", *_GLOBAL))


def import_gitlab(text: str | bytes, filename: str) -> Imported:
    """Translates the text of a `.gitlab-ci.yml`. Raises `ImportRefusedError` when nothing useful comes out."""
    return translate_file(text, lambda root, notes: _File(root, filename, notes).translate())


class _File:
    def __init__(self, root: Part, filename: str, notes: Notes) -> None:
        self._root = root
        self._notes = notes
        base = filename.replace("\\", "/").rsplit("/", 1)[-1]
        plain = base.removesuffix(".yml").removesuffix(".yaml").lstrip(".")
        self._draft = Draft(name=file_name("ci" if plain.startswith("gitlab-ci") else plain), source=base)

    def translate(self) -> Imported:
        root, notes, draft = self._root, self._notes, self._draft
        if "spec" in root:
            message = "the file begins with a `spec:` header; take that document out and put the inputs in by hand"
            raise ImportRefusedError(message, root.line("spec"))
        self._includes()
        stages = root.texts("stages") or root.texts("types") or list(DEFAULT_STAGES)
        draft.stages = [FIRST, *dict.fromkeys(stage for stage in stages if stage not in (FIRST, LAST)), LAST]
        declared = variables.declared(root.part("variables"), notes)
        workflow = self._workflow()
        translated = self._jobs(declared, workflow is not None)
        self._pipeline_variables(declared, translated)
        self._start(workflow, translated)
        self._needs(translated)
        for each in translated:
            draft.jobs += [*each.gates, *each.jobs]
        return finish(draft, notes)

    def _includes(self) -> None:
        for node in self._root.items("include"):
            what = ""
            if isinstance(node, Mapping):
                part = Part(node, self._notes)
                what = ", ".join(f"{key}: {part.text(key)}" for key in part if key != "inputs")
            advice = "included files are not read; translate the file itself and put its jobs in here"
            self._notes.add(node, f"`include` {what}".rstrip(), advice)

    def _workflow(self) -> Condition | None:
        part = self._root.part("workflow")
        if part is None:
            return None
        self._draft.title = part.text("name") if "$" not in part.text("name") and ":" not in part.text("name") else ""
        condition = workflow_rules(part, self._notes) if "rules" in part else None
        cancel = part.part("auto_cancel")
        if cancel is not None:
            self._draft.supersede = (
                "branch" if cancel.text("on_new_commit") in ("interruptible", "conservative") else ""
            )
            cancel.rest("`auto_cancel`", {})
        part.rest("`workflow`", {})
        return condition

    def _jobs(self, declared: dict[str, str], workflow: bool) -> list[Translated]:
        root, notes = self._root, self._notes
        inheritance = Inheritance(root, _KEYWORDS, notes)
        defaults = self._defaults()
        shared = Shared(
            notes=notes, variables=declared, services=self._draft.services, inheritance=inheritance, taken=set()
        )
        found = []
        for name in root:
            if name in _KEYWORDS:
                continue
            node = root.take(name)
            if name.startswith("."):
                continue
            if not isinstance(node, Mapping):
                notes.add(root.line(name), quoted(name), "neither a keyword nor a job; left out")
                continue
            job = inheritance.job(name, defaults)
            if job is None:
                continue
            line = root.line(name)
            if "trigger" in job:
                advice = "starts another pipeline; give that one a material `upstream: {pipeline: …, stage: …}`"
                notes.add(line, f"the job {quoted(name)}", advice)
                continue
            if "script" not in job and "run" not in job:
                notes.add(line, f"the job {quoted(name)}", "it has no `script`; left out")
                continue
            called = f"the job {quoted(name)}"
            rules = job_rules(job, called, notes, workflow=workflow)
            if rules.condition == NEVER:
                notes.add(line, called, "it never runs; left out")
                continue
            translated = JobTranslator(name, line, job, rules, shared).translate()
            if translated.stage not in self._draft.stages:
                self._draft.stages.insert(-1, translated.stage)
            found.append(translated)
        return found

    def _defaults(self) -> dict[str, Part]:
        """Where the default of each keyword stands: in `default`, or at the top as in older files."""
        root = self._root
        found = {key: root for key in _GLOBAL if key in root}
        part = root.part("default")
        if part is not None:
            found.update({key: part for key in _DEFAULTS if key in part})
            part.skip(*_DEFAULTS, "interruptible", "hooks")
            part.rest("`default`", {})
        return found

    def _pipeline_variables(self, declared: dict[str, str], translated: list[Translated]) -> None:
        """Those that are plain texts. Each job exports the others itself, since they refer to variables of the run."""
        dimensions = {name for each in translated for job in each.jobs for name in job.matrix}
        for name, value in declared.items():
            text = variables.expanded(value, declared)
            if not variables.unresolved(text) and name not in dimensions:
                self._draft.variables[name] = text.replace("$$", "$")

    def _start(self, workflow: Condition | None, translated: list[Translated]) -> None:
        """What starts the pipeline, and guards for the jobs that are not part of every run."""
        notes, draft = self._notes, self._draft
        conditions = {each.rules.condition for each in translated}
        common = workflow
        if common is None and len(conditions) == 1 and any(each.rules.given for each in translated):
            common = next(iter(conditions))
        when = as_when(common) if common is not None else None
        line = self._root.line("workflow")
        if common is not None and when is None and workflow is not None:
            notes.add(line, "`workflow: rules`", "`when` cannot say this; each job looks at the condition itself")
        if when is None:
            when = self._mentioned([*conditions, *([workflow] if workflow is not None else [])])
            rest = workflow or ALWAYS
        else:
            rest = ALWAYS
        draft.events, draft.branches = list(when.events), list(when.branches)
        if when.any_branch:
            where = "the branches of `when: {branch: […]}`" if when.branches else "the default branch"
            advice = f"GitLab starts on every branch, here only {where} counts; list more exact names there"
            notes.add(line if workflow is not None else 1, "pushes to branches", advice)
        for each in translated:
            own = ALWAYS if rest is ALWAYS and each.rules.condition == common else each.rules.condition
            # What the file does not say itself need not be guarded where it cannot happen.
            self._guard(each, every(rest, own if each.rules.given else assuming(own, draft.events)))

    def _mentioned(self, conditions: list[Condition]) -> When:
        """Events and branches that the jobs wait for; without them the jobs would never run."""
        found = [part for condition in conditions for part, wanted in atoms(condition) if wanted]
        events = ["push"]
        if any(isinstance(part, Tag) for part in found):
            events.append("tag")
        if Event("pull_request") in found:
            events.append("pull_request")
        names = [
            part.pattern for part in found if isinstance(part, Branch) and "*" not in part.pattern and not part.regex
        ]
        named = [name for name in dict.fromkeys(names) if name != DEFAULT_BRANCH.pattern]
        if named:
            named = list(dict.fromkeys([*([] if "master" in named else ["main"]), *named]))
        for part in found:
            if isinstance(part, Branch) and part != ANY_BRANCH and (part.regex or "*" in part.pattern):
                advice = "`when: {branch: […]}` takes exact names only; list the branches there"
                self._notes.add(1, f"the branches `{part.pattern}`", advice)
        return When(tuple(events), tuple(named), any_branch=True)

    def _guard(self, each: Translated, condition: Condition) -> None:
        lines, switch = shell.guard(condition, shell.switch_name(each.name))
        if not lines:
            return
        if switch:
            said = "; ".join(dict.fromkeys(unknown(condition)))
            advice = f"not understood, so the job does nothing unless the variable {switch} is `true`"
            self._notes.add(each.line, f"the condition {quoted(said, 120)} of the job {quoted(each.name)}", advice)
        elif each.gates:
            advice = "the gate waits in every run; put both into a pipeline of their own with `when:`"
            self._notes.add(each.line, f"the gate of {quoted(each.name)}", advice)
        each.guarded = True
        for job in each.jobs:
            job.script.insert(0, lines)
            job.optional = [*job.required, *job.optional]
            job.required = []

    def _needs(self, translated: list[Translated]) -> None:
        """`needs`, and the artifacts that a job finds in its workspace, now that all jobs are known."""
        by_name = {each.name: each for each in translated}
        position = {stage: index for index, stage in enumerate(self._draft.stages)}
        for each in translated:
            needed = []
            for need in each.needs:
                other = by_name.get(need.job)
                if other is None or position[other.stage] > position[each.stage]:
                    if not need.optional:
                        advice = "it was not translated" if other is None else "it belongs to a later stage"
                        self._notes.add(need.line, f"the need for {quoted(need.job)}", f"{advice}; left out")
                    continue
                needed.append(need)
                for job in (*each.gates, *each.jobs):
                    job.needs += [instance.name for instance in other.jobs]
            if each.dependencies is not None:
                sources = each.dependencies
            elif each.has_needs:
                sources = [need.job for need in needed if need.artifacts]
            else:
                sources = [other.name for other in translated if position[other.stage] < position[each.stage]]
            for name in sources:
                if name in by_name and name != each.name:
                    self._fetch(each, by_name[name], asked=each.has_needs or each.dependencies is not None)

    def _fetch(self, each: Translated, source: Translated, *, asked: bool) -> None:
        for made in source.jobs:
            if (not made.required and not made.optional) or (made.artifacts_when == "on_failure" and not asked):
                continue
            if source.guarded or source.rules.allow_failure or made.artifacts_when == "on_failure":
                what = f"artifacts of {quoted(source.name)} for {quoted(each.name)}"
                advice = "that job may leave nothing, which would fail this one; add `needs_artifacts` when it cannot"
                self._notes.add(each.line, what, advice)
                continue
            made.required, made.optional = [*made.required, *made.optional], []
            for job in each.jobs:
                job.needs_artifacts.append({"from_job": made.name})
