"""What an assignment looks like on the wire (protocol-agent 1.3, 2.10)."""

from __future__ import annotations

from uuid import uuid4

from gocdnext.fleet.frames import job_assignment
from gocdnext.pipeline import model
from gocdnext.runs.assignment import Assignment, Checkout
from gocdnext.runs.fetching import Download


def test_every_part_of_a_job() -> None:
    job = model.Job(
        name="unit",
        stage="test",
        kind="script",
        image="python:3.11",
        script="set -e\nmake",
        docker=True,
        profile="big",
        timeout_seconds=90,
        resources=model.Resources(requests=model.ResourceValues(cpu="1", memory="2Gi")),
        artifacts=model.Artifacts(when="always", required=("dist",), optional=("logs",)),
        cache=(model.Cache(key="k", paths=("a", "b")),),
        test_reports=("*.xml",),
        coverage_report=model.CoverageReport(path="c.out", format="go-cover", fail_under=80.5),
        outputs={"version": model.Output(env="VERSION", masked=False)},
    )
    checkout = Checkout(uuid4(), "https://example.org/r.git", "abc", "main", "src/12345678")
    made = Assignment(
        run_id=uuid4(),
        job_id=uuid4(),
        attempt=1,
        definition=job,
        env={"A": "b"},
        checkouts=(checkout,),
        masks=("secret",),
        downloads=(Download("dist/app", "run/1", "bin", "abc", "compile", "https://ci/artifacts/t"),),
        service_generation=3,
    )
    frame = job_assignment(made)
    assert (frame.run_id, frame.job_id, frame.name) == (str(made.run_id), str(made.job_id), "unit")
    assert (frame.image, frame.docker, frame.profile, frame.timeout_seconds) == ("python:3.11", True, "big", 90)
    assert [task.script for task in frame.tasks] == ["set -e\nmake"]
    assert dict(frame.env) == {"A": "b"}
    assert frame.checkouts[0].material_id == str(checkout.material_id)
    assert (frame.checkouts[0].url, frame.checkouts[0].target_dir) == (checkout.url, "src/12345678")
    assert list(frame.log_masks) == ["secret"]
    assert (list(frame.artifact_paths), list(frame.optional_artifact_paths)) == (["dist"], ["logs"])
    assert frame.artifacts_when == "always"
    (download,) = frame.artifact_downloads
    assert (download.path, download.storage_key, download.get_url) == ("dist/app", "run/1", "https://ci/artifacts/t")
    assert (download.dest, download.content_sha256, download.from_job) == ("bin", "abc", "compile")
    assert [(cache.key, list(cache.paths)) for cache in frame.caches] == [("k", ["a", "b"])]
    assert list(frame.test_reports) == ["*.xml"]
    assert (frame.resources.cpu_request, frame.resources.memory_request) == ("1", "2Gi")
    assert (frame.coverage_report.path, frame.coverage_report.fail_under) == ("c.out", 80.5)
    assert dict(frame.outputs) == {"version": "VERSION"}
    assert (frame.workspace, frame.service_generation) == ("/workspace", 3)


def test_a_plugin_is_one_task_with_the_substituted_settings() -> None:
    job = model.Job(name="tag", stage="s", kind="plugin", plugin=model.Plugin(image="p:1", settings={"k": "${{ V }}"}))
    made = Assignment(uuid4(), uuid4(), 0, job, {}, settings={"k": "v"})
    (task,) = job_assignment(made).tasks
    assert (task.plugin.image, dict(task.plugin.settings)) == ("p:1", {"k": "v"})
    assert not job_assignment(made).HasField("coverage_report")
