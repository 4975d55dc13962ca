"""`.gitlab-ci.yml` to a pipeline of ours: what is translated, what is noted, and that nothing runs that did not before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gocdnext.importers import Imported, ImportRefusedError, import_gitlab
from gocdnext.pipeline.model import CoverageReport, Job

Sample = Callable[[str], Imported]


def translated(text: str) -> Imported:
    return import_gitlab(text, ".gitlab-ci.yml")


def job_of(imported: Imported, name: str) -> Job:
    job = imported.pipeline.job(name)
    assert job is not None, [job.name for job in imported.pipeline.jobs]
    return job


def noted(imported: Imported, line: int) -> str:
    return "\n".join(f"{note.what}: {note.advice}" for note in imported.notes if note.line == line)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


class TestPythonService:
    @pytest.fixture
    def result(self, sample: Sample) -> Imported:
        return sample("gitlab_python")

    def test_stages_and_start(self, result: Imported) -> None:
        pipeline = result.pipeline
        assert pipeline.stages == ("lint", "test", "package", "deploy")
        assert (pipeline.when.events, pipeline.when.branches) == (("pull_request", "push"), ())
        assert {job.name: job.stage for job in pipeline.jobs} == {
            "ruff": "lint", "unit": "test", "versions-3.11": "test", "versions-3.12": "test", "container": "package",
            "wheel": "package", "staging": "deploy", "production": "deploy", "production-approval": "deploy",
        }  # fmt: skip

    def test_defaults_and_inheritance(self, result: Imported) -> None:
        job = job_of(result, "ruff")
        assert (job.image, job.tags, job.retry) == ("python:3.12-slim", ("linux",), 1)
        assert [(cache.key, cache.paths) for cache in job.cache] == [
            ('pip-{{ hash "requirements.txt" }}', (".cache/pip",))
        ]
        commands = job.script.splitlines()
        assert commands[-3:] == ["pip install -r requirements.txt", "ruff check .", "ruff format --check ."]

    def test_services_with_their_settings(self, result: Imported) -> None:
        assert [(each.name, each.image, each.env) for each in result.pipeline.services] == [
            ("postgres", "postgres:16", {"POSTGRES_USER": "app", "POSTGRES_PASSWORD": "test"}),
            ("cache", "redis:7", {}),
        ]

    def test_matrix(self, result: Imported) -> None:
        assert job_of(result, "unit").instances == ("SUITE=api", "SUITE=web")
        assert [job_of(result, f"versions-{n}").image for n in ("3.11", "3.12")] == ["python:3.11", "python:3.12"]
        assert job_of(result, "versions-3.11").variables == {"VERSION": "3.11"}

    def test_reports_and_artifacts(self, result: Imported) -> None:
        job = job_of(result, "unit")
        assert job.test_reports == ("report.xml",)
        assert job.coverage_report == CoverageReport(path="coverage.xml", format="cobertura")
        assert job.artifacts is not None
        assert (job.artifacts.when, job.artifacts.expire_in_seconds) == ("always", 7 * 86400)

    def test_dependencies(self, result: Imported) -> None:
        job = job_of(result, "container")
        assert (job.needs, job.docker, job.timeout_seconds) == (("wheel",), True, 5400)
        assert [each.from_job for each in job.needs_artifacts] == ["wheel"]
        assert [each.from_job for each in job_of(result, "staging").needs_artifacts] == ["unit", "wheel"]

    def test_gate_and_deployment(self, result: Imported) -> None:
        job = job_of(result, "production")
        assert job.needs == ("production-approval",)
        assert job.deploy is not None
        assert job.deploy.environment == "production"
        assert job_of(result, "production-approval").kind == "gate"

    def test_reference(self, result: Imported) -> None:
        assert "\npip install -r requirements.txt\n./deploy.sh staging" in job_of(result, "staging").script

    def test_notes_have_their_lines(self, result: Imported) -> None:
        assert "Security/SAST" in noted(result, 10)
        assert "coverage" in noted(result, 53)
        assert "CI_REGISTRY_IMAGE" in noted(result, 82)
        assert "needs: []" in noted(result, 41)
        assert [note.line for note in result.notes] == sorted(note.line for note in result.notes)


def test_node_shop(sample: Sample) -> None:
    result = sample("gitlab_node")
    pipeline = result.pipeline
    assert pipeline.stages == ("install", "verify", "bundle", "publish")
    assert set(pipeline.when.events) == {"push", "tag", "pull_request"}
    assert pipeline.variables == {"NODE_ENV": "test", "API_URL": "https://api.example.org"}
    assert job_of(result, "unit tests").instances == ("NODE_INDEX=1", "NODE_INDEX=2", "NODE_INDEX=3")
    assert sum(job.name.startswith("browsers-") for job in pipeline.jobs) == 5
    assert job_of(result, "browsers-webkit-desktop").variables == {"BROWSER": "webkit", "VIEW": "desktop"}
    publish = job_of(result, "npm publish")
    assert (publish.needs, publish.cache) == (("bundle",), ())
    assert publish.id_tokens == {"NPM_ID_TOKEN": ("npm:registry.npmjs.org",)}
    assert publish.deploy is not None
    assert publish.deploy.environment == "npm-latest"
    assert job_of(result, "review").deploy is None
    assert pipeline.job("downstream") is None
    assert "upstream" in noted(result, 105)
    assert "npm ci" not in job_of(result, "audit").script


def test_go_service(sample: Sample) -> None:
    result = sample("gitlab_go")
    pipeline = result.pipeline
    assert (pipeline.name, pipeline.supersede) == ("Go service", "branch")
    assert (pipeline.when.events, pipeline.when.branches) == (("tag", "push"), ("main", "next"))
    assert pipeline.stages == ("build", "test", "deploy", ".post")
    unit = job_of(result, "unit")
    assert unit.variables["DSN"] == "postgres://postgres:secret@db/orders"
    assert unit.script.count("mkdir -p .go") == 2
    assert [each.from_job for each in job_of(result, "smoke").needs_artifacts] == ["binary"]
    (service,) = pipeline.services
    assert (service.name, service.command) == ("db", ("postgres", "-c", "fsync=off"))
    assert service.env == {"POSTGRES_PASSWORD": "secret", "POSTGRES_DB": "orders"}
    assert "bash" in noted(result, 69)


@pytest.mark.parametrize(
    ("run", "job", "runs"),
    [
        ({"CI_CAUSE": "webhook", "CI_BRANCH": "main"}, "production", True),
        ({"CI_CAUSE": "webhook", "CI_BRANCH": "other"}, "production", False),
        ({"CI_CAUSE": "pull_request", "CI_BRANCH": "main"}, "production", False),
        ({"CI_CAUSE": "webhook", "CI_BRANCH": "trunk", "CI_DEFAULT_BRANCH": "trunk"}, "staging", True),
        ({"CI_CAUSE": "webhook", "CI_BRANCH": "trunk"}, "staging", False),
        ({"CI_CAUSE": "pull_request", "CI_BRANCH": "main"}, "staging", False),
    ],
)
def test_guards(sample: Sample, shell: Any, run: dict[str, str], job: str, runs: bool) -> None:
    outcome = shell(job_of(sample("gitlab_python"), job), **run)
    # There is no `deploy.sh` (and for staging no pip): the job fails exactly when it gets that far.
    assert (outcome.returncode != 0) == runs, outcome


@pytest.mark.parametrize(
    ("rules", "run", "runs"),
    [
        ("[{if: '$CI_COMMIT_TAG =~ /^v\\d+\\.\\d+$/'}]", {"CI_CAUSE": "tag", "CI_TAG_NAME": "v1.20"}, True),
        ("[{if: '$CI_COMMIT_TAG =~ /^v\\d+\\.\\d+$/'}]", {"CI_CAUSE": "tag", "CI_TAG_NAME": "v1x20"}, False),
        ("[{if: '$CI_COMMIT_TAG =~ /^v\\d+\\.\\d+$/'}]", {"CI_CAUSE": "webhook", "CI_TAG_NAME": "v1.20"}, False),
        ("[{if: '$CI_COMMIT_TAG =~ /^v\\d+/'}]", {"CI_CAUSE": "tag", "CI_TAG_NAME": "v1-rc"}, True),
        ("[{if: '$CI_COMMIT_TAG =~ /^v(?!0)/'}]", {"CI_CAUSE": "tag", "CI_TAG_NAME": "v1"}, False),
        ("[{if: '$CI_COMMIT_TAG =~ /^[\\w.]+$/'}]", {"CI_CAUSE": "tag", "CI_TAG_NAME": "v.1"}, True),
        ("[{if: '$CI_COMMIT_TAG =~ /^v\\d/'}]", {"CI_CAUSE": "tag", "CI_TAG_NAME": "version"}, False),
        ("[{if: '$CI_COMMIT_BRANCH =~ /^release\\//'}]", {"CI_CAUSE": "poll", "CI_BRANCH": "release/1"}, True),
        ("[{if: '$CI_COMMIT_BRANCH =~ /^release\\//'}]", {"CI_CAUSE": "poll", "CI_BRANCH": "my-release/1"}, False),
        ("[{if: '$CI_COMMIT_BRANCH == null'}]", {"CI_CAUSE": "webhook", "CI_BRANCH": "main"}, False),
        ("[{if: $CI_COMMIT_TAG, when: never}, {if: $A}]", {"CI_CAUSE": "tag", "CI_TAG_NAME": "x", "A": "1"}, False),
        ("[{if: $CI_COMMIT_TAG, when: never}, {if: $A}]", {"CI_CAUSE": "webhook", "A": "1"}, True),
        ("[{if: $CI_COMMIT_TAG, when: never}, {if: $A}]", {"CI_CAUSE": "webhook"}, False),
        ('[{if: \'$A == "x y" && ($B || $C != "1")\'}]', {"A": "x y", "C": "2"}, True),
        ('[{if: \'$A == "x y" && ($B || $C != "1")\'}]', {"A": "x y", "C": "1"}, False),
        ("[{if: '$CI_PIPELINE_SOURCE == \"schedule\"'}]", {"CI_CAUSE": "cron"}, True),
        ("[{if: '$CI_PIPELINE_SOURCE == \"schedule\"'}]", {"CI_CAUSE": "webhook"}, False),
        ("[{if: '$CI_SOMETHING == \"x\"'}]", {"CI_SOMETHING": "x"}, False),
        ("[{if: '$CI_SOMETHING != \"x\"'}]", {"CI_SOMETHING": "y"}, False),
        ("[{if: '$CI_SOMETHING == \"x\"'}]", {"RUN_J": "true"}, True),
        ("[{if: 'nonsense ((', when: never}, {when: always}]", {}, False),
        ("[{changes: [src/*]}]", {}, True),
        ("[{changes: [docs/*], when: never}, {when: on_success}]", {}, True),
    ],
)
def test_rules(shell: Any, rules: str, run: dict[str, str], runs: bool) -> None:
    text = f"k:\n  script: [echo k]\nj:\n  script: [echo it runs]\n  rules: {rules}\n"
    outcome = shell(job_of(translated(text), "j"), **run)
    assert (outcome.stdout == "it runs\n") == runs, outcome
    assert outcome.returncode == 0


@pytest.mark.parametrize(
    ("keys", "run", "runs"),
    [
        ("only: [main]", {"CI_CAUSE": "webhook", "CI_BRANCH": "main"}, True),
        ("only: [main]", {"CI_CAUSE": "tag", "CI_BRANCH": "main"}, False),
        ("only: [tags]\n  except: [/^beta-.*$/]", {"CI_CAUSE": "tag", "CI_TAG_NAME": "v1"}, True),
        ("only: [tags]\n  except: [/^beta-.*$/]", {"CI_CAUSE": "tag", "CI_TAG_NAME": "beta-1"}, False),
        ("only: {refs: [branches], variables: ['$A']}", {"CI_CAUSE": "webhook", "CI_BRANCH": "b", "A": "1"}, True),
        ("only: {refs: [branches], variables: ['$A']}", {"CI_CAUSE": "webhook", "CI_BRANCH": "b"}, False),
        ("except: [schedules]", {"CI_CAUSE": "cron"}, False),
        ("only: ['main@group/project']", {"CI_CAUSE": "webhook", "CI_BRANCH": "main"}, False),
    ],
)
def test_only_and_except(shell: Any, keys: str, run: dict[str, str], runs: bool) -> None:
    outcome = shell(job_of(translated(f"k:\n  script: [x]\nj:\n  script: [echo it runs]\n  {keys}\n"), "j"), **run)
    assert (outcome.stdout == "it runs\n") == runs, outcome


def test_the_same_rules_everywhere_become_when() -> None:
    rules = "rules: [{if: '$CI_COMMIT_BRANCH == \"main\"'}, {if: '$CI_COMMIT_BRANCH == \"next\"'}]"
    result = translated(f"a:\n  script: [x]\n  {rules}\nb:\n  script: [y]\n  {rules}\n")
    assert result.pipeline.when.branches == ("main", "next")
    assert job_of(result, "a").script == "set -e\nx"


def test_after_script_runs_whatever_happened(shell: Any) -> None:
    result = translated(
        "j:\n  script: ['cd /; echo one; false; echo two']\n  after_script: ['false', 'echo after $(basename $PWD)']\n"
    )
    outcome = shell(job_of(result, "j"))
    assert outcome.returncode == 1
    first, after = outcome.stdout.splitlines()
    assert first == "one"
    assert after.startswith("after ")
    assert after != "after /"


def test_allowed_to_fail(shell: Any) -> None:
    outcome = shell(job_of(translated("j: {script: [exit 3], allow_failure: true, after_script: [echo x]}\n"), "j"))
    assert outcome.returncode == 0
    assert outcome.stdout == "x\nFailed with exit code 3, which is allowed here.\n"


def test_variables_are_worked_out_by_the_shell(shell: Any) -> None:
    text = """
variables: {NAME: app, TAG: "$NAME:$CI_COMMIT_REF_SLUG", PRICE: "5$$", Q: 'a "b" `c` $CI_COMMIT_SHA'}
j: {script: ['echo "$TAG $PRICE $Q"']}
"""
    result = translated(text)
    assert result.pipeline.variables == {"NAME": "app", "PRICE": "5$"}
    outcome = shell(job_of(result, "j"), CI_BRANCH="Feature/X_1", CI_COMMIT_SHA="abc", **result.pipeline.variables)
    assert outcome.stdout == 'app:feature-x-1 5$ a "b" `c` abc\n'


@pytest.mark.parametrize(
    ("text", "part", "said"),
    [
        ("a: {script: [x], secrets: {A: {vault: x}}}\n", "secrets", "secrets"),
        ("a:\n  script: [x]\n  artifacts:\n    reports:\n      dotenv: x.env\n", "dotenv", "GOCDNEXT_OUTPUT_FILE"),
        ("a:\n  script: [x]\n  needs:\n    - pipeline: other\n", "- pipeline", "from_pipeline"),
        ("a:\n  script: [x]\n  needs:\n    - nothing\n", "- nothing", "nothing"),
        ("a:\n  extends: .gone\n  script: [x]\nb: {script: [x]}\n", "extends", ".gone"),
        ("a:\n  script: [x]\n  image: $CI_REGISTRY_IMAGE/x\n", "image", "fixed"),
        ("a:\n  script: [x]\n  cache: {key: 'x-{{ y', paths: [z]}\n", "cache", "{{"),
        ("a:\n  script: [x]\n  new_keyword: 1\n", "new_keyword", "no equal"),
        ("variables:\n  A: ${{ x }}\na: {script: [x]}\n", "A:", "means something else"),
    ],
)
def test_what_is_not_translated_is_noted(text: str, part: str, said: str) -> None:
    assert said in noted(translated(text), line_of(text, part))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("- a\n", "mapping"),
        ("a: [\n", "YAML"),
        ("stages: [a]\n", "no job"),
        ("spec: {inputs: {}}\n---\na: {script: [x]}\n", "spec"),
        ("a: {extends: b, script: [x]}\nb: {extends: a}\n", "extends itself"),
        ("include: x.yml\n", "no job"),
    ],
)
def test_nothing_useful(text: str, said: str) -> None:
    with pytest.raises(ImportRefusedError) as refused:
        translated(text)
    assert said in refused.value.message


def test_the_same_text_gives_the_same_result(sample: Sample) -> None:
    assert sample("gitlab_python").yaml == sample("gitlab_python").yaml
