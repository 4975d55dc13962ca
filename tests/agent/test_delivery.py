"""What jobs take in and hand out: real agent, real shell, a real HTTP store, a server whose answers the test decides."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from gocdnext.agent import transfer
from gocdnext.proto import agent_pb2 as pb
from tests.agent.containers import IMAGE, Podman
from tests.agent.scripted_server import PATIENCE, Rig, rig, script_job
from tests.agent.store import TOKEN, Answers, Store, serving_store

FAILED, SUCCESS = pb.RUN_STATUS_FAILED, pb.RUN_STATUS_SUCCESS


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(transfer, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(transfer, "TRIES", 2)
    with serving_store() as it:
        yield it


@contextlib.asynccontextmanager
async def delivering(root: Path, store: Store) -> AsyncIterator[tuple[Rig, Answers]]:
    async with rig(root) as it:
        yield it, Answers(store, it.server)


def texts(it: Rig, job_id: str = "job-1") -> list[str]:
    return it.server.streams[0].texts(job_id)


def notes(it: Rig, job_id: str = "job-1") -> list[str]:
    """What the log says after the tasks."""
    all_of_it = texts(it, job_id)
    (at,) = (number for number, text in enumerate(all_of_it) if text.startswith("── tasks "))
    return all_of_it[at + 1 :]


def content(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        return {info.name: file.extractfile(info).read() for info in file if info.isreg()}  # type: ignore[union-attr]


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


# -- uploads


async def test_artifacts_go_up_and_the_result_names_them(tmp_path: Path, store: Store) -> None:
    job = script_job(
        "mkdir -p dist/sub; echo app > dist/app; echo deep > dist/sub/deep; echo log > a.log",
        artifact_paths=["dist/", "**/deep"],
        optional_artifact_paths=["*.log", "gone", "no/*.where", "dist"],
    )
    async with delivering(tmp_path, store) as (it, answers):
        result = await it.run(job)
        assert (result.status, result.error) == (SUCCESS, "")
        assert [list(call.paths) for call in answers.calls] == [["dist/", "**/deep"], ["*.log"]]
        assert {call.session_id for call in answers.calls} == {it.server.streams[0].session}
        assert [(ref.path, ref.storage_key) for ref in result.artifacts] == [
            ("dist/", "key-dist/"),
            ("**/deep", "key-**/deep"),
            ("*.log", "key-*.log"),
        ]
        assert content(store.get("up-1")) == {"dist/sub/deep": b"deep\n"}
        assert content(store.get("up-0")) == {"a.log": b"log\n"}  # the second request's first
        assert [ref.size for ref in result.artifacts][1:] == [len(store.get("up-1")), len(store.get("up-0"))]
        assert notes(it) == [
            "── artifact upload …",
            f"artifact dist/: 3 entries, {result.artifacts[0].size} B",
            f"artifact **/deep: 1 entry, {result.artifacts[1].size} B",
            "artifact gone: there is no such file or directory; nothing is uploaded",
            "artifact no/*.where: no file matches; nothing is uploaded",
            f"artifact *.log: 1 entry, {result.artifacts[2].size} B",
            "── artifact upload done in <1s",
        ]
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("paths", "error"),
    [
        (
            ["gone", "also/*"],
            "artifact upload failed: gone: there is no such file or directory; also/*: no file matches",
        ),
        (["/etc/passwd"], "artifact upload failed: '/etc/passwd' is an absolute path"),
        (["../x"], "artifact upload failed: '../x' leads out of the directory of the job"),
        (["out"], "artifact upload failed: out: 'out' is a link that leads out"),
        (["out/passwd"], "artifact upload failed: out/passwd: 'out/passwd' is a link that leads out"),
    ],
)
async def test_a_required_artifact_that_cannot_be_had(
    tmp_path: Path, store: Store, paths: list[str], error: str
) -> None:
    async with delivering(tmp_path, store) as (it, answers):
        result = await it.run(script_job("echo app > app; ln -s /etc out", artifact_paths=["app", *paths]))
        assert (result.status, result.exit_code) == (FAILED, 1)
        assert result.error.startswith(error)
        assert answers.calls == []
        assert notes(it)[-1].startswith("── artifact upload failed after <1s (")


async def test_no_store_no_permission_no_room(tmp_path: Path, store: Store) -> None:
    job = script_job("echo app > app", artifact_paths=["app"])
    async with delivering(tmp_path, store) as (it, _):
        for number, (answer, error) in enumerate(
            [
                (GRPCError(Status.UNIMPLEMENTED, "server has no artifact backend"), "no artifact backend"),
                (GRPCError(Status.PERMISSION_DENIED, "not yours"), "PERMISSION_DENIED: not yours"),
                (pb.RequestArtifactUploadResponse(), "0 upload tickets are not for the 1 paths"),
            ]
        ):
            it.server.answers["RequestArtifactUpload"] = lambda _, answer=answer: answer
            job.job_id = f"job-{number}"
            result = await it.run(job)
            assert (result.status, result.exit_code) == (FAILED, 1)
            assert result.error.startswith("artifact upload failed: ")
            assert error in result.error
        Answers(store, it.server)
        store.statuses = [(507, '{"error": "the disk is full"}')]
        job.job_id = "job-full"
        result = await it.run(job)
        assert result.error.endswith("answered 507 Insufficient Storage (the disk is full)")
        assert TOKEN not in "".join(map(str, it.server.streams[0].messages))


async def test_optional_artifacts_never_fail_a_job(tmp_path: Path, store: Store) -> None:
    job = script_job("echo app > app", optional_artifact_paths=["app", "../x"])
    async with delivering(tmp_path, store) as (it, _):
        store.statuses = [(413, "artifact exceeds max size")]
        result = await it.run(job)
        assert (result.status, list(result.artifacts)) == (SUCCESS, [])
        assert it.server.streams[0].texts(stream="stderr") == [
            "artifact '../x' leads out of the directory of the job; it is not uploaded",
            f"artifact app is not uploaded: {store.base} answered 413 Request Entity Too Large (artifact exceeds max size)",
        ]
        it.server.answers.clear()
        job.job_id = "job-2"
        assert (await it.run(job)).status == SUCCESS


@pytest.mark.parametrize(
    ("when", "uploaded_after"),
    [("", {0}), ("on_success", {0}), ("on_failure", {7}), ("always", {0, 7})],
)
async def test_when(tmp_path: Path, store: Store, when: str, uploaded_after: set[int]) -> None:
    async with delivering(tmp_path, store) as (it, _):
        for code in (0, 7):
            job = script_job(
                f"echo app > app; exit {code}",
                f"job-{code}",
                artifact_paths=["app", *(["gone"] if code else [])],
                artifacts_when=when,
            )
            result = await it.run(job)
            assert result.exit_code == code
            assert [ref.path for ref in result.artifacts] == (["app"] if code in uploaded_after else [])
            label = "artifact upload (on failure)" if code else "artifact upload"
            assert (f"── {label} …" in notes(it, f"job-{code}")) == (code in uploaded_after)


async def test_what_is_no_file_is_skipped_with_a_line(tmp_path: Path, store: Store) -> None:
    async with delivering(tmp_path, store) as (it, _):
        script = "mkdir d; mkfifo d/fifo; ln -s ../../.. d/up; ln -s f d/link; echo x > d/f"
        assert (await it.run(script_job(script, artifact_paths=["d"]))).status == SUCCESS
        assert it.server.streams[0].texts(stream="stderr") == [
            "d/fifo is a fifo; skipped",
            "d/up is a link that leads out, to ../../..; skipped",
        ]


# -- downloads


def download(store: Store, name: str, data: bytes, **fields: Any) -> pb.ArtifactDownload:
    fields = {"path": "dist", "from_job": "build", "content_sha256": store.put(name, data), **fields}
    return pb.ArtifactDownload(get_url=store.url(name), **fields)


async def test_artifacts_come_down_before_the_tasks(tmp_path: Path, store: Store) -> None:
    job = script_job(
        "cat dist/app deps/dist/app plain/dist/app",
        artifact_downloads=[
            download(store, "a", archive(dist__app=b"1\n"), dest="./"),
            download(store, "b", archive(dist__app=b"2\n"), dest="deps/"),
            download(store, "c", archive(dist__app=b"3\n"), dest="plain", content_sha256=""),
        ],
    )
    async with delivering(tmp_path, store) as (it, _):
        assert (await it.run(job)).status == SUCCESS
        assert texts(it)[:3] == ["$ download artifact dist (from build)"] * 3
        assert it.server.streams[0].printed() == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"content_sha256": "0" * 64}, "what arrived is not what was stored"),
        ({"dest": "../up"}, "'../up' leads out of the directory of the job"),
        ({"dest": "/etc"}, "'/etc' is an absolute path"),
        ({"get_url": "http://127.0.0.1:1/x"}, "http://127.0.0.1:1 cannot be reached"),
    ],
)
async def test_a_download_that_fails_fails_the_job(
    tmp_path: Path, store: Store, change: dict[str, str], error: str
) -> None:
    wanted = download(store, "a", archive(app=b"1"))
    for name, value in change.items():
        setattr(wanted, name, value)
    async with delivering(tmp_path, store) as (it, _):
        result = await it.run(script_job("echo never", artifact_downloads=[wanted]))
        assert (result.status, result.exit_code) == (FAILED, -1)
        assert result.error.startswith(f"artifact dist (from build): {error}")
        assert it.server.streams[0].printed() == []


async def test_bad_archives(tmp_path: Path, store: Store) -> None:
    async with delivering(tmp_path, store) as (it, _):
        for number, (data, error) in enumerate(
            [
                (archive(**{"..__x": b""}), "leads out"),
                (b"no gzip", "is no gzip"),
                (archive(x=b"1" * 1000)[:-20], "ends too early"),
            ]
        ):
            job = script_job("echo never", f"job-{number}", artifact_downloads=[download(store, "a", data)])
            assert error in (await it.run(job)).error
        store.put("a", b"x" * 1000)
        store.truncate = 10
        wanted = pb.ArtifactDownload(path="p", from_job="j", get_url=store.url("a"))
        result = await it.run(script_job("echo never", "job-t", artifact_downloads=[wanted]))
        assert result.error.startswith(f"artifact p (from j): the connection to {store.base} broke")


async def test_a_cancel_during_a_download_ends_the_job_at_once(tmp_path: Path, store: Store) -> None:
    store.stall = threading.Event()
    job = script_job("echo never", artifact_downloads=[download(store, "a", archive(x=os.urandom(100_000)))])
    async with delivering(tmp_path, store) as (it, _):
        stream = await it.server.stream()
        stream.assign(job)
        await trio.to_thread.run_sync(store.stalled.wait, PATIENCE)
        stream.cancel("job-1")
        result = await stream.result()
        assert (result.status, result.error) == (FAILED, "artifacts: canceled (user canceled)")
        assert list(tmp_path.iterdir()) == []


async def test_a_cancel_while_packing_ends_the_job_at_once(tmp_path: Path, store: Store) -> None:
    async with delivering(tmp_path, store) as (it, answers):
        stream = await it.server.stream()
        # Half a minute's work, if nobody ended it.
        stream.assign(script_job("truncate -s 50G zeros; truncate -s 50G more", artifact_paths=["zeros", "more"]))
        await stream.until_line("── artifact upload …")
        stream.cancel("job-1")
        assert (await stream.result()).error == "after the tasks: canceled (user canceled)"
        assert answers.calls == []
        assert list(tmp_path.iterdir()) == []


# -- caches


async def test_a_cache_is_stored_and_restored(tmp_path: Path, store: Store) -> None:
    entries = [pb.CacheEntry(key='deps-{{ hash "lock" }}', paths=["node_modules", "gone", "sub/*.bin"])]
    make = "mkdir -p node_modules/a sub; echo 1 > node_modules/a/x; echo 2 > sub/y.bin; ln -s a node_modules/l"
    key = "deps-" + hashlib.sha256(b"lock\nv1\n\n").hexdigest()[:12]
    async with delivering(tmp_path, store) as (it, answers):
        lock = download(store, "lock", archive(lock=b"v1\n"))
        result = await it.run(script_job(make, artifact_downloads=[lock], caches=entries))
        assert result.status == SUCCESS
        assert [type(call).__name__ for call in answers.calls] == [
            "RequestCacheGetRequest",
            "RequestCachePutRequest",
            "MarkCacheReadyRequest",
        ]
        assert answers.ready == {key: (len(store.get(f"cache-{key}")), answers.calls[2].content_sha256)}
        assert f"cache {key}: there is none yet" in texts(it)
        assert notes(it) == [
            "── cache store (1 entry) …",
            f"cache {key}: there is no gone",
            f"cache {key}: 4 entries, {answers.ready[key][0]} B stored",
            "── cache store (1 entry) done in <1s",
        ]
        again = script_job("cat node_modules/l/x sub/y.bin", "job-2", artifact_downloads=[lock], caches=entries)
        assert (await it.run(again)).status == SUCCESS
        assert it.server.streams[0].printed("job-2")[0] == f"cache {key}: 4 entries, 4 B restored"
        assert {"1", "2"} <= set(it.server.streams[0].printed("job-2"))
        assert f"cache {key}: unchanged" in notes(it, "job-2")
        changed = script_job("echo 3 > sub/y.bin", "job-3", artifact_downloads=[lock], caches=entries)
        assert (await it.run(changed)).status == SUCCESS
        assert content(store.get(f"cache-{key}"))["sub/y.bin"] == b"3\n"


async def test_a_key_that_cannot_be_made_fails_the_job_before_its_tasks(tmp_path: Path, store: Store) -> None:
    async with delivering(tmp_path, store) as (it, answers):
        for number, (key, error) in enumerate(
            [('x-{{ hash "go.sum" }}', "no file matches 'go.sum'"), ("x-{{ oops }}", "not part of"), ("", "empty key")]
        ):
            job = script_job("echo never", f"job-{number}", caches=[pb.CacheEntry(key=key, paths=["x"])])
            result = await it.run(job)
            assert (result.status, result.exit_code) == (FAILED, -1)
            assert result.error.startswith("cache key: ")
            assert error in result.error
        assert answers.calls == []


async def test_a_cache_never_fails_a_job(tmp_path: Path, store: Store) -> None:
    entries = [pb.CacheEntry(key=key, paths=["x"]) for key in ("gone", "bad", "broken")]
    async with delivering(tmp_path, store) as (it, answers):
        store.put("cache-bad", b"no archive")
        store.put("cache-broken", b"no archive")
        answers.ready = {"bad": (10, "0" * 64), "broken": (10, "")}
        store_put = it.server.answers.pop("RequestCachePut")
        assert (await it.run(script_job("echo ran > x", caches=entries))).status == SUCCESS
        errors = it.server.streams[0].texts(stream="stderr")
        assert errors[0].startswith("cache bad is not restored: what arrived is not what was stored")
        assert errors[1].startswith("cache broken is not restored: the archive cannot be read: it is damaged")
        assert errors[2:] == [
            f"cache {key} is not stored: UNIMPLEMENTED: no message" for key in ("gone", "bad", "broken")
        ]
        assert notes(it)[-1] == "── cache store (3 entries) failed after <1s (3 of 3 not stored)"
        it.server.answers |= {"RequestCachePut": store_put}
        it.server.answers.pop("RequestCacheGet")
        it.server.answers.pop("MarkCacheReady")
        assert (await it.run(script_job("echo ran > x", "job-2", caches=entries[:1]))).status == SUCCESS
        assert TOKEN not in "".join(map(str, it.server.streams[0].messages))


async def test_no_cache_is_stored_after_a_failure(tmp_path: Path, store: Store) -> None:
    async with delivering(tmp_path, store) as (it, answers):
        await it.run(script_job("echo x > x; exit 1", caches=[pb.CacheEntry(key="k", paths=["x"])]))
        assert [type(call).__name__ for call in answers.calls] == ["RequestCacheGetRequest"]


# -- reports


JUNIT = '<testsuite name="s"><testcase name="a"/><testcase name="b"><failure message="hunter2hunter2"/></testcase></testsuite>'
LCOV = "SF:src/a\\nLF:10\\nLH:8\\nend_of_record\\n"


def reports(it: Rig) -> list[Any]:
    """Reports and results in the order in which they came."""
    kinds = ("test_results", "coverage", "result")
    messages = it.server.streams[0].messages
    return [getattr(m, kind) for m in messages for kind in kinds if m.HasField(kind)]


@pytest.mark.parametrize("code", [0, 3])
async def test_reports_are_sent_whatever_became_of_the_tasks(tmp_path: Path, code: int) -> None:
    job = script_job(
        f"printf '{JUNIT}' > r.xml; printf '{LCOV}' > lcov.info; exit {code}",
        test_reports=["*.xml"],
        coverage_report=pb.CoverageReportSpec(path="lcov.info", format="lcov", fail_under=80),
        log_masks=["hunter2hunter2"],
    )
    async with rig(tmp_path) as it:
        await it.run(job)
        tests, summary, result = reports(it)
        assert result.exit_code == code
        assert (tests.run_id, tests.job_id) == ("run-1", "job-1")
        assert [(case.name, case.status, case.failure_message) for case in tests.results] == [
            ("a", "passed", ""),
            ("b", "failed", "***"),
        ]
        assert (summary.run_id, summary.job_id, summary.format) == ("run-1", "job-1", "lcov")
        assert (summary.lines_covered, summary.lines_total) == (8, 10)
        assert [(package.name, package.lines_total) for package in summary.packages] == [("src", 10)]
        assert notes(it) == ["test reports: 1 passed, 1 failed in 1 file", "coverage: 80 % (8 of 10 lines)"]


async def test_the_coverage_gate(tmp_path: Path, store: Store) -> None:
    spec = pb.CoverageReportSpec(path="lcov.info", format="lcov", fail_under=80.5)
    async with delivering(tmp_path, store) as (it, _):
        job = script_job(
            f"printf '{LCOV}' > lcov.info",
            coverage_report=spec,
            artifact_paths=["lcov.info"],
            artifacts_when="always",
            caches=[pb.CacheEntry(key="k", paths=["x"])],
        )
        result = await it.run(job)
        assert (result.status, result.exit_code) == (FAILED, 1)
        assert result.error == "coverage: 80 % is below the required 80.5 % (8 of 10 lines)"
        assert [ref.path for ref in result.artifacts] == ["lcov.info"]
        assert "── artifact upload (on failure) …" in notes(it)
        assert "── cache store (1 entry) …" not in notes(it)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (":", "there is no such file"),
        ("echo nonsense > lcov.info", "no record of a source file"),
        ("printf 'SF:a\\nend_of_record\\n' > lcov.info", "does not count a single line"),
        ("mkfifo lcov.info", "is not a file"),
    ],
)
async def test_a_coverage_report_that_cannot_be_used(tmp_path: Path, script: str, why: str) -> None:
    async with rig(tmp_path) as it:
        spec = pb.CoverageReportSpec(path="lcov.info", format="lcov")
        assert (await it.run(script_job(script, coverage_report=spec))).status == SUCCESS
        (line,) = it.server.streams[0].texts(stream="stderr")
        assert line.startswith("coverage: lcov.info: ")
        assert why in line
        spec.fail_under = 1
        result = await it.run(script_job(script, "job-2", coverage_report=spec))
        assert (result.status, result.exit_code) == (FAILED, 1)
        assert result.error.startswith("coverage: lcov.info could not be used as a lcov report")


async def test_bad_reports_are_lines(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        script = "echo '<html/>' > a.xml; echo '<!DOCTYPE x [<!ENTITY e \"f\">]><testsuite>&e;</testsuite>' > b.xml"
        result = await it.run(script_job(script, test_reports=["*.xml", "none/**/*.xml"]))
        assert result.status == SUCCESS
        assert it.server.streams[0].texts(stream="stderr") == [
            "test reports: no file matches 'none/**/*.xml'",
            "test reports: a.xml is not read: its root is <html>, not <testsuites> or <testsuite>",
            "test reports: b.xml is not read: it declares entities, which are not expanded here",
        ]
        assert reports(it) == [result]


async def test_a_full_disk_refuses_a_job_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gocdnext.agent.disk.RESERVE", 2**60)
    monkeypatch.setattr("gocdnext.agent.disk.PART", 1)
    async with rig(tmp_path) as it:
        result = await it.run(script_job("echo never"))
        assert (result.status, result.exit_code) == (FAILED, -1)
        assert result.error.startswith("workspace: the disk of the agent's work root is full")


# -- calls that do not get through


async def test_a_call_waits_for_a_server_that_is_away_for_a_moment(tmp_path: Path, store: Store) -> None:
    job = script_job("echo app > app", artifact_paths=["app"])
    async with delivering(tmp_path, store) as (it, _):
        answer = it.server.answers["RequestArtifactUpload"]
        errors = [GRPCError(Status.UNAVAILABLE), GRPCError(Status.UNAVAILABLE)]
        it.server.answers["RequestArtifactUpload"] = lambda request: errors.pop() if errors else answer(request)
        assert (await it.run(job)).status == SUCCESS
        assert errors == []


async def test_containers_deliver_what_they_made(tmp_path: Path, store: Store, podman: Podman) -> None:
    job = script_job(
        "test -e node_modules/lib || echo no cache; cat deps/in; mkdir -p dist node_modules; echo out > dist/app;"
        " chmod 600 dist/app; ln -s app dist/link; mkfifo dist/fifo; echo lib > node_modules/lib",
        image=IMAGE,
        artifact_downloads=[download(store, "in", archive(**{"in": b"in\n"}), dest="deps")],
        artifact_paths=["dist"],
        caches=[pb.CacheEntry(key="deps", paths=["node_modules"])],
    )
    async with rig(tmp_path, engine="docker", docker_sockets=(podman.socket,)) as it:
        Answers(store, it.server)
        for number in range(2):
            job.job_id = f"job-{number}"
            result = await it.run(job)
            assert (result.status, result.error) == (SUCCESS, "")
            assert content(store.get("up-0")) == {"dist/app": b"out\n"}
            printed = it.server.streams[0].printed(job.job_id)
            assert "in" in printed
            assert ("no cache" in printed) == (number == 0)
        assert list(tmp_path.iterdir()) == []


def test_an_idle_agent_has_nothing_of_this_in_memory() -> None:
    script = "import sys, gocdnext.agent.main; print({'httpx', 'wcmatch', 'tarfile', 'defusedxml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
