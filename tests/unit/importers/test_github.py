"""GitHub workflows to pipelines of ours: what is translated, what is noted, and what the scripts do in a real shell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gocdnext.importers import Imported, ImportRefusedError, import_github
from gocdnext.pipeline.model import CronMaterial, Job

Sample = Callable[[str], Imported]
HEAD = "on: push\njobs:\n  j:\n    runs-on: ubuntu-latest\n"


def translated(text: str) -> Imported:
    return import_github(text, ".github/workflows/ci.yml")


def steps(text: str) -> Imported:
    return translated(f"{HEAD}    steps:\n{text}")


def job_of(imported: Imported, name: str = "j") -> Job:
    job = imported.pipeline.job(name)
    assert job is not None, [job.name for job in imported.pipeline.jobs]
    return job


def noted(imported: Imported, line: int) -> str:
    return "\n".join(f"{note.what}: {note.advice}" for note in imported.notes if note.line == line)


def all_notes(imported: Imported) -> str:
    return "\n".join(map(str, imported.notes))


class TestPythonPackage:
    @pytest.fixture
    def result(self, sample: Sample) -> Imported:
        return sample("github_python")

    def test_start(self, result: Imported) -> None:
        pipeline = result.pipeline
        assert (pipeline.name, pipeline.stages, pipeline.supersede) == ("CI", ("ci",), "branch")
        assert pipeline.when.events == ("tag", "push", "pull_request", "cron", "manual")
        assert pipeline.when.branches == ("main",)
        assert [m.expression for m in pipeline.materials if isinstance(m, CronMaterial)] == ["0 4 * * 1"]
        assert pipeline.variables == {"INPUT_LEVEL": "info", "PYTHONUNBUFFERED": "1", "REGISTRY": "ghcr.io"}

    def test_the_graph_is_kept(self, result: Imported) -> None:
        tests = ("test-ubuntu-latest-3.11", "test-ubuntu-latest-3.12", "test-ubuntu-latest-3.13-pre")
        assert {job.name: job.needs for job in result.pipeline.jobs} == {
            "lint": (), "shards": (), **dict.fromkeys(tests, ("lint",)), "build": tests, "deploy": ("build",),
        }  # fmt: skip
        assert [job_of(result, name).image for name in tests] == ["python:3.11", "python:3.12", "python:3.13"]

    def test_matrix(self, result: Imported) -> None:
        job = job_of(result, "shards")
        assert job.instances == ("MATRIX_SHARD=1", "MATRIX_SHARD=2", "MATRIX_SHARD=3")
        assert (job.image, job.tags) == ("node:22", ("gpu",))
        assert "--shard=${MATRIX_SHARD}/3" in job.script

    def test_secrets_services_caches(self, result: Imported) -> None:
        job = job_of(result, "test-ubuntu-latest-3.11")
        assert job.secrets == ("TEST_API_KEY",)
        assert 'export API_KEY="${TEST_API_KEY}"' in job.script
        assert job.cache[0].key == 'Linux-pip-3.11-{{ hash "**/requirements.txt" }}'
        assert job.cache[0].paths == (".cache/pip",)
        assert [(each.name, each.image) for each in result.pipeline.services] == [("postgres", "postgres:16")]

    def test_outputs_and_artifacts(self, result: Imported) -> None:
        build, deploy = job_of(result, "build"), job_of(result, "deploy")
        assert build.outputs["tag"].env == "OUT_TAG"
        assert build.artifacts is not None
        assert build.artifacts.required == ("dist/",)
        assert [each.from_job for each in deploy.needs_artifacts] == ["build"]
        assert deploy.variables["TAG"] == "${{ needs.build.outputs.tag }}"
        assert deploy.deploy is not None
        assert (deploy.deploy.environment, deploy.secrets) == ("production", ("TOKEN",))

    def test_docker(self, result: Imported) -> None:
        build = job_of(result, "build")
        assert (build.docker, build.timeout_seconds) == (True, 1200)
        assert 'docker build --tag "ghcr.io/acme/app:${CI_COMMIT_SHA}" --tag ghcr.io/acme/app:latest .' in build.script

    def test_notes_have_their_lines(self, result: Imported) -> None:
        assert "release/**" in noted(result, 4)
        assert "codecov" in noted(result, 76)
        assert "reusable" in noted(result, 125)
        assert "postgres" in noted(result, 45)


def test_node_package(sample: Sample) -> None:
    result = sample("github_node")
    assert result.pipeline.name == "Node - build and test"
    assert [job.name for job in result.pipeline.jobs] == ["changes", "docs", "pages", "test-20", "test-22"]
    assert job_of(result, "test-20").image == "node:20"
    assert job_of(result, "test-20").cache[0].key == 'npm-{{ hash "**/package-lock.json" }}'
    docs = job_of(result, "docs")
    assert docs.needs == ("changes", "test-20", "test-22")
    assert docs.variables == {"SITE": "example.org", "NEEDS_CHANGES_DOCS": "${{ needs.changes.outputs.docs }}"}
    assert docs.artifacts is not None
    assert (docs.artifacts.optional, docs.artifacts.expire_in_seconds) == (("docs/dist",), 5 * 86400)
    pages = job_of(result, "pages")
    # The condition that came with its need looks at an output of a job further up.
    assert (set(pages.needs), set(pages.variables)) == ({"docs", "changes"}, {"NEEDS_CHANGES_DOCS"})
    assert "RUN_PAGES" in pages.script


def test_go_module(sample: Sample) -> None:
    result = sample("github_go")
    job = job_of(result, "test")
    assert (job.image, job.tags, job.timeout_seconds, len(job.instances)) == ("golang:1.24", ("big",), 900, 4)
    assert job.cache[0].key == 'go-{{ hash "go.sum" }}-{{ hash "tools/go.sum" }}'
    assert job.cache[0].paths == (".cache/go-mod", ".cache/go-build")
    assert result.pipeline.when.paths == ("**.go", "go.mod")
    assert job_of(result, "image").variables == {"IMAGE": "ghcr.io/acme/store"}
    assert "notifications" in noted(result, 58)


def test_release(sample: Sample, shell: Any) -> None:
    result = sample("github_release")
    assert result.pipeline.when.events == ("tag", "manual")
    publish = job_of(result, "publish")
    assert [each.from_job for each in publish.needs_artifacts] == ["wheel"]
    assert publish.secrets == ("PYPI_TOKEN",)
    assert shell(publish, CI_CAUSE="tag", CI_TAG_NAME="nightly").returncode == 0
    assert shell(publish, CI_CAUSE="tag", CI_TAG_NAME="v1").returncode == 127


@pytest.mark.parametrize(
    ("condition", "run", "runs"),
    [
        ("github.ref == 'refs/heads/main'", {"CI_CAUSE": "webhook", "CI_BRANCH": "main"}, True),
        ("github.ref == 'refs/heads/main'", {"CI_CAUSE": "pull_request", "CI_BRANCH": "main"}, False),
        ("${{ github.ref != 'refs/heads/main' }}", {"CI_CAUSE": "pull_request", "CI_BRANCH": "main"}, True),
        ("startsWith(github.ref, 'refs/tags/v')", {"CI_CAUSE": "tag", "CI_TAG_NAME": "v2"}, True),
        ("startsWith(github.ref, 'refs/tags/v')", {"CI_CAUSE": "webhook", "CI_BRANCH": "v2"}, False),
        ("github.event_name == 'push' && github.ref_name == 'x'", {"CI_CAUSE": "webhook", "CI_BRANCH": "x"}, True),
        ("github.event_name == 'push' && github.ref_name == 'x'", {"CI_CAUSE": "poll", "CI_BRANCH": "y"}, False),
        ("(github.event_name == 'schedule') || false", {"CI_CAUSE": "cron"}, True),
        ("vars.DEPLOY == 'yes'", {"DEPLOY": "yes"}, True),
        ("vars.DEPLOY == 'yes'", {}, False),
        ("github.actor != 'robot'", {}, False),
        ("!contains(github.event.head_commit.message, 'x')", {}, False),
        ("contains(github.ref, 'x') || true", {}, True),
        ("success()", {}, True),
        ("'${{ github.ref }}' == 'x'", {}, False),
        ("((((", {}, False),
    ],
)
def test_conditions_of_jobs(shell: Any, condition: str, run: dict[str, str], runs: bool) -> None:
    quoted = condition.replace('"', '\\"')
    result = translated(f'{HEAD}    if: "{quoted}"\n    steps: [{{run: echo it runs}}]\n')
    outcome = shell(job_of(result), **run)
    assert (outcome.stdout == "it runs\n") == runs, outcome
    assert outcome.returncode == 0


def test_a_job_that_never_runs_is_left_out() -> None:
    with pytest.raises(ImportRefusedError, match="no job"):
        translated(f"{HEAD}    if: false\n    steps: [{{run: x}}]\n")


def test_a_need_hands_its_condition_on(shell: Any) -> None:
    result = translated(
        f"{HEAD}    if: github.ref == 'refs/heads/main'\n    steps: [{{run: echo j}}]\n"
        "  k:\n    needs: j\n    runs-on: x\n    steps: [{run: echo k}]\n"
    )
    assert shell(job_of(result, "k"), CI_CAUSE="webhook", CI_BRANCH="main").stdout == "k\n"
    assert "Nothing to do" in shell(job_of(result, "k"), CI_CAUSE="webhook", CI_BRANCH="other").stdout


def test_steps_do_not_disturb_each_other(shell: Any) -> None:
    result = steps(
        "      - {run: 'mkdir a; cd a; set +e; A=1; false; true'}\n"
        "      - {run: 'basename $PWD; echo $B', env: {B: 'x ${{ runner.os }} $C \"q\"'}}\n"
        "      - {run: 'basename $PWD; echo \"[$B]\"', working-directory: a}\n"
        "      - {run: 'false; echo no'}\n"
        "      - {run: echo no}\n"
    )
    outcome = shell(job_of(result))
    assert outcome.returncode == 1
    lines = outcome.stdout.splitlines()
    assert lines[1:] == ['x Linux $C "q"', "a", "[]"]


def test_files_between_steps(shell: Any, tmp_path: Path) -> None:
    result = steps(
        '      - {run: \'echo "A=b c=d" >> "$GITHUB_ENV"; echo /opt/x >> $GITHUB_PATH\'}\n'
        "      - {id: one, run: 'echo \"out-put=v=1\" >> $GITHUB_OUTPUT'}\n"
        "      - {id: two, run: 'echo \"x=2\" >> $GITHUB_OUTPUT'}\n"
        "      - {run: 'echo \"$A ${PATH%%:*} ${{ steps.one.outputs.out-put }}\" >> $GITHUB_STEP_SUMMARY'}\n"
        "      - {run: 'echo \"$A ${PATH%%:*} ${{ steps.one.outputs.out-put }} ${{ steps.two.outputs.x }}\"'}\n"
        "    outputs: {answer: 'is ${{ steps.two.outputs.x }}'}\n"
    )
    outcome = shell(job_of(result), GOCDNEXT_OUTPUT_FILE=str(tmp_path / "out"))
    assert (outcome.returncode, outcome.stdout) == (0, "b c=d /opt/x v=1 2\n"), outcome
    assert (tmp_path / "out").read_text() == "OUT_ANSWER=is 2\n"
    assert job_of(result).outputs["answer"].env == "OUT_ANSWER"


def test_a_skipped_job_has_its_outputs(shell: Any, tmp_path: Path) -> None:
    result = translated(f"{HEAD}    if: vars.A\n    steps: [{{run: x}}]\n    outputs: {{a: '1'}}\n")
    assert shell(job_of(result), GOCDNEXT_OUTPUT_FILE=str(tmp_path / "out")).returncode == 0
    assert (tmp_path / "out").read_text() == "OUT_A=\n"


def test_other_interpreters(shell: Any) -> None:
    result = steps(
        '      - {run: \'a=(x y); echo "${a[1]}"; read -r l; echo "$l" | cat\', shell: bash}\n'
        "      - {run: \"import sys\\nprint('it''s', sys.version_info[0])\\n\", shell: python}\n"
        "      - {run: 'exit 4', continue-on-error: true}\n"
        "      - {run: 'x', shell: pwsh}\n"
        "      - {run: 'if [[ a == a ]]; then echo \"STEP\"; fi'}\n"
        "      - {run: 'false | true; echo end', shell: bash}\n"
    )
    import subprocess

    script = job_of(result).script
    outcome = subprocess.run(["sh", "-c", "--", script], input="typed\n", text=True, capture_output=True, timeout=30)
    assert outcome.stdout == "y\ntyped\nits 3\nThe step failed, which is allowed here.\nSTEP\n"
    assert outcome.returncode == 1
    assert "pwsh" in all_notes(result)


def test_steps_at_the_end(shell: Any) -> None:
    result = steps(
        "      - {run: 'echo always', if: always()}\n"
        "      - {run: 'echo failed', if: failure()}\n"
        "      - {run: 'echo work; exit ${CODE:-0}'}\n"
        "      - {run: 'echo push', if: \"github.event_name == 'push'\"}\n"
    )
    good, bad = shell(job_of(result), CI_CAUSE="webhook"), shell(job_of(result), CODE="5")
    assert (good.returncode, good.stdout) == (0, "work\npush\nalways\n")
    assert (bad.returncode, bad.stdout) == (5, "work\nalways\nfailed\n")


def test_the_matrix_in_quotes(shell: Any) -> None:
    result = translated(
        f"{HEAD}    strategy: {{matrix: {{v: [a, b]}}}}\n    steps:\n"
        "      - run: |\n          echo '${{ matrix.v }} x' \"${{ matrix.v }}\" # don't\n          echo '${{ matrix.v }}'\n"
    )
    assert shell(job_of(result), MATRIX_V="a  b").stdout == "a  b x a  b\na  b\n"


@pytest.mark.parametrize(
    ("matrix", "names"),
    [
        ("{a: [1, 2], b: [x, y], exclude: [{a: 1, b: x}]}", ["j-1-y", "j-2-x", "j-2-y"]),
        ("{a: [1, 2], include: [{a: 2, c: z}, {a: 3}]}", ["j-1", "j-2-z", "j-3"]),
        ("{include: [{a: 1}, {a: 2}]}", ["j-1", "j-2"]),
        ("{a: [1, 1]}", ["j-1", "j-1-2"]),
        ("{os: [{name: x, v: 1}, {name: y, v: 2}]}", ["j-x-1", "j-y-2"]),
        ("{a: ['1,2', '3=4']}", ["j-1-2", "j-3-4"]),
        ("${{ fromJSON(needs.x.outputs.y) }}", ["j"]),
        ("{a: []}", ["j"]),
    ],
)
def test_matrices_of_another_kind(matrix: str, names: list[str]) -> None:
    result = translated(f"{HEAD}    strategy:\n      matrix: {matrix}\n    steps: [{{run: echo}}]\n")
    assert sorted(job.name for job in result.pipeline.jobs) == names


@pytest.mark.parametrize(
    ("on", "events", "branches"),
    [
        ("push", ("push",), ()),
        ("[push, pull_request]", ("push", "pull_request"), ()),
        ("{push: {branches: [a, 'b/**']}}", ("push",), ("a",)),
        ("{push: {tags: ['*']}}", ("tag",), ()),
        (
            "{push: {branches: [a], tags: ['v*']}, pull_request: {branches: [b]}}",
            ("tag", "push", "pull_request"),
            ("a", "b"),
        ),
        ("workflow_dispatch", ("manual",), ()),
        ("{schedule: [{cron: '0 1 * * *'}]}", ("cron",), ()),
        ("{workflow_call: {}}", ("manual",), ()),
        ("release", ("manual",), ()),
    ],
)
def test_events(on: str, events: tuple[str, ...], branches: tuple[str, ...]) -> None:
    when = translated(HEAD.replace("on: push", f"on: {on}") + "    steps: [{run: x}]\n").pipeline.when
    assert (when.events, when.branches) == (events, branches)


@pytest.mark.parametrize(
    ("tag", "name", "runs"),
    [
        ("v*", "v1", True), ("v*", "x", False), ("v[0-9]+.[0-9]+", "v1.2", True), ("v[0-9]+.[0-9]+", "v1x2", False),
        ("v[0-9]+.[0-9]+", "va.b", False), ("rel/*/x", "rel/a/x", True), ("rel/*/x", "rel/a/b/x", False),
        ("!v1", "v2", False),
    ],
)  # fmt: skip
def test_patterns_of_tags(shell: Any, tag: str, name: str, runs: bool) -> None:
    text = HEAD.replace("on: push", f"on: {{push: {{tags: ['{tag}']}}}}")
    outcome = shell(job_of(translated(f"{text}    steps: [{{run: echo it runs}}]\n")), CI_CAUSE="tag", CI_TAG_NAME=name)
    assert (outcome.stdout == "it runs\n") == runs, outcome


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("      - uses: actions/checkout@v4\n        with: {repository: a/b}\n", "`repository`"),
        ("      - uses: ./.github/actions/x\n", "of the repository"),
        ("      - uses: docker://alpine\n", "that image"),
        ("      - uses: actions/setup-node@v4\n        with: {node-version-file: .nvmrc}\n", "node-version-file"),
        ("      - uses: actions/cache@v4\n        with: {path: /var/x, key: k}\n", "/var/x"),
        ("      - uses: actions/download-artifact@v4\n        with: {name: gone}\n", "gone"),
        ("      - run: echo ${{ github.actor }}\n", "github.actor"),
        ("      - run: echo $GITHUB_REPOSITORY\n", "GITHUB_REPOSITORY"),
        ("      - run: x\n        timeout-minutes: 3\n", "timeout"),
    ],
)
def test_what_is_not_translated_is_noted(text: str, said: str) -> None:
    assert said in all_notes(steps(f"{text}      - run: 'true'\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("on: push\n", "no `jobs`"),
        ("jobs: {}\n", "no job"),
        ("jobs: {a: {uses: x/y@v1}}\n", "no job"),
        ("jobs: {a: {steps: [{run: x}], strategy: {matrix: {a: &a [1,2,3,4,5,6,7,8,9], b: *a, c: *a}, x: 1}}}\n", ""),
    ],
)
def test_nothing_useful(text: str, said: str) -> None:
    if said:
        with pytest.raises(ImportRefusedError, match=said):
            translated(text)
    else:
        assert len(job_of(translated(text), "a").instances) == 729
