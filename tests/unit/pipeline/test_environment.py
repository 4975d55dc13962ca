"""A job's environment, settings and masks."""

from __future__ import annotations

import msgspec
import pytest

from gocdnext.pipeline.environment import (
    BuiltinFacts,
    JobEnvironment,
    build_environment,
    builtin_variables,
    deploy_reference,
)
from gocdnext.pipeline.model import Deploy, Job, Plugin
from gocdnext.pipeline.substitution import NeededJob, OutputValue, SubstitutionError

FACTS = BuiltinFacts(
    run_id="r-1",
    run_counter=7,
    pipeline_id="p-1",
    pipeline_name="build",
    project_id="j-1",
    project_slug="shop",
    cause="webhook",
    revision="0123456789abcdef0123456789abcdef01234567",
    branch="main",
)
JOB = Job(name="a", stage="s", kind="script", script="x")


def job(**values: object) -> Job:
    return msgspec.structs.replace(JOB, **values)


def test_built_in_variables() -> None:
    assert builtin_variables(FACTS, "a") == {
        "CI": "true",
        "GOCDNEXT": "true",
        "CI_RUN_ID": "r-1",
        "CI_RUN_COUNTER": "7",
        "CI_PIPELINE_ID": "p-1",
        "CI_PIPELINE_NAME": "build",
        "CI_PROJECT_ID": "j-1",
        "CI_PROJECT_SLUG": "shop",
        "CI_JOB_NAME": "a",
        "CI_CAUSE": "webhook",
        "CI_COMMIT_SHA": FACTS.revision,
        "CI_COMMIT_SHORT_SHA": "01234567",
        "CI_BRANCH": "main",
        "CI_COMMIT_BRANCH": "main",
    }
    bare = builtin_variables(msgspec.structs.replace(FACTS, revision="", branch=""), "a")
    assert not {"CI_COMMIT_SHA", "CI_COMMIT_SHORT_SHA", "CI_BRANCH", "CI_COMMIT_BRANCH"} & set(bare)


def test_notifications_hear_how_the_run_ended() -> None:
    told = builtin_variables(msgspec.structs.replace(FACTS, outcome="failed"), "_notify_0")
    assert (told["CI_PIPELINE"], told["CI_PIPELINE_STATUS"]) == ("build", "failed")


def test_variables_of_the_cause() -> None:
    detail = {
        "pr_number": 12,
        "pr_title": "A title",
        "pr_author": "",
        "pr_url": "https://git.test/12",
        "pr_head_ref": "fix",
        "pr_base_ref": "main",
        "pr_labels": ["bug", "db"],
        "tag_name": "v1",
        "tag_message": "first",
        "tagger": "ann",
        "upstream_pipeline": "lib",
        "upstream_run_counter": 3,
        "upstream_stage": "package",
    }

    def added(cause: str, **changes: object) -> dict[str, str]:
        facts = msgspec.structs.replace(FACTS, cause=cause, cause_detail={**detail, **changes})
        known = builtin_variables(FACTS, "a")
        return {name: value for name, value in builtin_variables(facts, "a").items() if name not in known}

    upstream = {"CI_UPSTREAM_PIPELINE": "lib", "CI_UPSTREAM_RUN_COUNTER": "3", "CI_UPSTREAM_STAGE": "package"}
    assert added("manual") == upstream
    assert added("manual", upstream_run_counter=0) == {}
    assert added("tag") == {**upstream, "CI_TAG_NAME": "v1", "CI_TAG_MESSAGE": "first", "CI_TAG_AUTHOR": "ann"}
    assert added("pull_request", upstream_run_counter=None) == {
        "CI_PULL_REQUEST_KEY": "12",
        "CI_PULL_REQUEST_BRANCH": "fix",
        "CI_PULL_REQUEST_BASE": "main",
        "CI_PULL_REQUEST_TITLE": "A title",
        "CI_PULL_REQUEST_URL": "https://git.test/12",
        "CI_PULL_REQUEST_LABELS": "bug,db",
    }


def test_the_later_layer_wins() -> None:
    names = ["PROFILE", "PIPELINE", "JOB", "MATRIX", "SECRET", "TOKEN", "CI_BRANCH"]
    result = build_environment(
        job(variables=dict.fromkeys(names[2:], "job"), secrets=("SECRET", "TOKEN", "CI_BRANCH")),
        FACTS,
        profile=dict.fromkeys(names, "profile"),
        pipeline_variables=dict.fromkeys(names[1:], "pipeline"),
        matrix_key="MATRIX=one,Z=two",
        secrets=dict.fromkeys(names, "secret"),
        id_tokens={"TOKEN": "token"},
        kubeconfig="config",
    )
    assert {name: result.env[name] for name in names} == {
        "PROFILE": "profile",
        "PIPELINE": "pipeline",
        "JOB": "job",
        "MATRIX": "one",
        "SECRET": "secret",
        "TOKEN": "token",
        "CI_BRANCH": "main",
    }
    assert result.env["GOCDNEXT_MATRIX"] == "MATRIX=one,Z=two"
    assert result.env["Z"] == "two"
    assert result.env["PLUGIN_KUBECONFIG"] == "config"


def test_only_secrets_that_the_job_lists_are_there() -> None:
    result = build_environment(job(secrets=("A",)), FACTS, secrets={"A": "aaaa", "B": "bbbb"})
    assert result.env["A"] == "aaaa"
    assert "B" not in result.env
    assert result.masks == ("aaaa",)


def test_variables_see_secrets_built_ins_and_outputs() -> None:
    variables = {
        "URL": "https://u:${{ TOKEN }}@h/${{ CI_RUN_COUNTER }}",
        "TAG": "v${{ needs.img.outputs.tag }}",
        "SHELL": "${HOME} ${CI_BRANCH}",
    }
    result = build_environment(
        job(variables=variables, secrets=("TOKEN",)),
        FACTS,
        secrets={"TOKEN": "s3cr3t"},
        needs={"img": NeededJob({"": {"tag": OutputValue("1.2")}})},
    )
    assert {name: result.env[name] for name in variables} == {
        "URL": "https://u:s3cr3t@h/7",
        "TAG": "v1.2",
        "SHELL": "${HOME} ${CI_BRANCH}",
    }


def test_values_from_outside_are_never_looked_into() -> None:
    detail = {"pr_title": "${{ TOKEN }} ${{ anything else }}"}
    facts = msgspec.structs.replace(FACTS, cause="pull_request", cause_detail=detail)
    hostile = "${{ TOKEN }} ${{ bad expression }} ${CI_BRANCH}"
    plugin = Plugin(
        image="p", settings={"m": "${{ CI_PULL_REQUEST_TITLE }} ${OTHER} ${{ needs.n.outputs.o }} ${{ V }}"}
    )
    result = build_environment(
        job(secrets=("TOKEN", "OTHER"), plugin=plugin, kind="plugin", variables={"V": "${{ OTHER }}"}),
        facts,
        secrets={"TOKEN": "s3cr3t", "OTHER": hostile},
        id_tokens={"JWT": hostile},
        profile_secrets={"P": hostile},
        needs={"n": NeededJob({"": {"o": OutputValue(hostile)}})},
    )
    assert result.env["CI_PULL_REQUEST_TITLE"] == detail["pr_title"]
    assert result.env["OTHER"] == result.env["JWT"] == result.env["P"] == result.env["V"] == hostile
    assert result.settings["m"] == f"{detail['pr_title']} {hostile} {hostile} {hostile}"


def test_settings_see_the_whole_environment_and_both_spellings() -> None:
    settings = {"a": "${{ T }}", "b": "${CI_BRANCH} ${NOBODY} ${{ S }}", "c": "plain"}
    result = build_environment(
        job(kind="plugin", plugin=Plugin(image="p", settings=settings), secrets=("S",)),
        FACTS,
        pipeline_variables={"T": "1.${CI_RUN_COUNTER}"},
        secrets={"S": "s3cr3t"},
    )
    assert result.env["T"] == "1.${CI_RUN_COUNTER}"
    assert result.settings == {"a": "1.7", "b": "main ${NOBODY} s3cr3t", "c": "plain"}


def test_jobs_of_policies_do_not_see_pipeline_variables() -> None:
    assert "V" not in build_environment(JOB, FACTS, pipeline_variables=None).env


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"variables": {"T": "${{ OTHER }}"}},
            "variable T: unresolved reference ${{ OTHER }}; "
            "only secrets listed by the job and built-in variables can be referred to here",
        ),
        ({"variables": {"T": "${{ a.b }}"}}, "variable T: unsupported expression ${{ a.b }}"),
        ({"secrets": ("GONE",)}, "secrets: no value for GONE"),
        ({"variables": {"T": "${{ needs.x.outputs.y }}"}}, "needs outputs: x is not in the `needs` of this job"),
        ({"plugin": Plugin(image="p", settings={"k": "${{ NO }}"})}, "setting k: unresolved reference ${{ NO }}"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SubstitutionError) as failed:
        build_environment(job(**changes), FACTS, pipeline_variables={"OTHER": "value"}, secrets={"S": "hidden-value"})
    assert str(failed.value).startswith(message)
    assert "hidden-value" not in str(failed.value)


def test_a_variable_that_is_replaced_anyway_cannot_fail() -> None:
    result = build_environment(job(variables={"CI_BRANCH": "${{ NOBODY }}"}), FACTS)
    assert result.env["CI_BRANCH"] == "main"


def test_masks() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n}\n-----END KEY-----\n"
    matrix = NeededJob(
        {
            "R=eu": {"o": OutputValue("12345678"), "p": OutputValue("short")},
            "R=us": {"o": OutputValue("x", masked=True)},
        },
        ("R",),
    )
    result = build_environment(
        job(secrets=("KEY", "EMPTY")),
        FACTS,
        secrets={"KEY": key, "EMPTY": ""},
        profile_secrets={"P": "profile-secret"},
        id_tokens={"T": "token-value"},
        kubeconfig="cluster-config",
        needs={"m": matrix},
        more_masks=["clone-token", ""],
    )
    assert set(result.masks) == {
        key,
        "-----BEGIN KEY-----",
        "MIIEvQIBADANBg",
        "-----END KEY-----",
        "profile-secret",
        "token-value",
        "cluster-config",
        "clone-token",
        "12345678",
        "x",
    }
    assert [len(mask) for mask in result.masks] == sorted(map(len, result.masks), reverse=True)


def test_the_same_arguments_give_the_same_result() -> None:
    def made() -> JobEnvironment:
        return build_environment(job(secrets=("A", "B")), FACTS, secrets={"A": "aaaa", "B": "bbbb"})

    assert made() == made()


def deployed(version: str = "", revision: str = "", facts: BuiltinFacts = FACTS) -> tuple[str, str]:
    needs = {"img": NeededJob({"": {"tag": OutputValue("v9 ${CI_BRANCH}")}})}
    found = deploy_reference(Deploy(environment="e", version=version, revision=revision), facts, "a", needs)
    return found.version, found.revision


def test_deploy_version_and_revision() -> None:
    assert deployed() == ("01234567", "01234567")
    assert deployed("1.${CI_RUN_COUNTER}-${X}") == ("1.7-${X}", FACTS.revision)
    assert deployed("abcdef1") == ("abcdef1", "abcdef1")
    assert deployed("${{ needs.img.outputs.tag }}", "${{ CI_COMMIT_SHA }}") == ("v9 ${CI_BRANCH}", FACTS.revision)


@pytest.mark.parametrize("version", ["${CI_NOTHING}", "${{ CI_NOTHING }}", "${{ needs.img.outputs.no }}"])
def test_deploy_texts_must_resolve(version: str) -> None:
    with pytest.raises(SubstitutionError):
        deployed(version)


def test_a_deployment_needs_some_version() -> None:
    bare = msgspec.structs.replace(FACTS, revision="")
    with pytest.raises(SubstitutionError, match="CI_COMMIT_SHORT_SHA"):
        deployed(facts=bare)
    assert deployed("1.0", facts=bare) == ("1.0", "")
