"""Plugins on the real agent without containers: what runs, with which variables and where, and what cannot run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gocdnext.agent import plugins
from gocdnext.proto import agent_pb2
from gocdnext.proto.agent_pb2 import JobAssignment, PluginSpec, TaskSpec
from tests.agent.scripted_server import rig

FAILED, SUCCESS = agent_pb2.RUN_STATUS_FAILED, agent_pb2.RUN_STATUS_SUCCESS
SHOW = """\
import os, sys
import kit
import httpx

for name in sorted(name for name in os.environ if name.startswith(("PLUGIN_", "MINE"))):
    print(f"{name}={os.environ[name]}")
print("here", os.path.basename(os.path.dirname(os.getcwd())), sys.executable, len(sys.argv))
print("err", file=sys.stderr)
sys.exit(int(os.environ.get("PLUGIN_CODE", "0")))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of plugins in the place of ours: `show` in Python, `say` in sh, `none` without an implementation."""
    root = tmp_path / "plugins"
    for name in ("show", "say", "none"):
        (root / name).mkdir(parents=True)
        (root / name / "plugin.yaml").write_text(f"name: {name}")
    (root / "show" / "plugin.py").write_text(SHOW)
    (root / "say" / "plugin.sh").write_text('echo "$PLUGIN_TEXT from $0" | sed "s|/.*/||"\nexit 3\n')
    for file in ("kit.py", "run.py"):  # `show` needs no more
        (root / file).write_bytes((plugins.shipped() / file).read_bytes())
    monkeypatch.setattr(plugins, "shipped", lambda: root)
    return root


def job(image: str, env: dict[str, str] | None = None, **settings: str) -> JobAssignment:
    task = TaskSpec(plugin=PluginSpec(image=image, settings=settings))
    return JobAssignment(run_id="run-1", job_id="job-1", env=env or {}, tasks=[task])


async def test_a_python_plugin_runs_with_the_agents_interpreter(tmp_path: Path, own: Path) -> None:
    async with rig(tmp_path / "work") as it:
        settings = {"targetEnv": "a b", "node-version": "20", "level": "from the settings", "ca_cert": ""}
        result = await it.run(job("gocdnext/show:v1", {"PLUGIN_LEVEL": "from the job", "MINE": "yes"}, **settings))
        stream = it.server.streams[0]
        assert (result.status, result.error) == (SUCCESS, "")
        assert stream.texts(stream="stdout")[0] == "$ plugin gocdnext/show:v1"
        assert stream.texts(stream="stdout")[1:-1] == [
            "MINE=yes",
            "PLUGIN_CA_CERT=",
            "PLUGIN_LEVEL=from the job",
            "PLUGIN_NODE_VERSION=20",
            "PLUGIN_TARGET_ENV=a b",
            f"here run-1 {sys.executable} 1",
        ]
        assert stream.texts(stream="stderr") == ["err"]


async def test_its_exit_code_is_the_tasks(tmp_path: Path, own: Path) -> None:
    async with rig(tmp_path / "work") as it:
        result = await it.run(job("ghcr.io/someone/gocdnext-plugin-show:v1", code="2"))
        assert (result.status, result.exit_code, result.error) == (FAILED, 2, "task 0 exited with 2")


async def test_a_shell_plugin(tmp_path: Path, own: Path) -> None:
    async with rig(tmp_path / "work") as it:
        result = await it.run(job("say", text="hello"))
        assert result.exit_code == 3
        assert it.server.streams[0].printed() == ["hello from plugin.sh"]


async def test_variables_of_the_job_do_not_reach_into_the_interpreter(tmp_path: Path, own: Path) -> None:
    """But stay in the environment, for what the plugin starts."""
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("kit", "runpy", "httpx", "sitecustomize"):
        (evil / f"{name}.py").write_text("raise SystemExit('evil')")
    env = {"PYTHONPATH": str(evil), "PYTHONHOME": str(evil), "PYTHONSTARTUP": str(evil / "kit.py"), "MINE": "yes"}
    async with rig(tmp_path / "work") as it:
        result = await it.run(job("show", env))
        assert result.status == SUCCESS, it.server.streams[0].texts()


@pytest.mark.parametrize("image", ["acme/show:v1", "gocdnext/none:v1", "gocdnext/kit:v1", "gocdnext/..", "x" * 5000])
async def test_what_is_not_ours_is_refused_with_what_to_do(tmp_path: Path, own: Path, image: str) -> None:
    async with rig(tmp_path / "work") as it:
        result = await it.run(job(image))
        assert result.status == FAILED
        assert result.error.startswith(f"task 0: plugin {image}: the shell engine cannot run plugins from images")
        assert "gocdnext/say, gocdnext/show" in result.error
        assert result.error.endswith("run this job on an agent with a container engine, or write the step as a script")


async def test_without_a_container_engine_auto_runs_them_too(tmp_path: Path, own: Path) -> None:
    async with rig(tmp_path / "work", engine="auto", docker_sockets=(str(tmp_path / "none"),)) as it:
        assert (await it.run(job("show"))).status == SUCCESS


async def test_settings_that_no_environment_can_hold(tmp_path: Path, own: Path) -> None:
    async with rig(tmp_path / "work") as it:
        result = await it.run(job("show", None, **{"a=b": "x"}))
        assert "cannot be set" in result.error


def test_what_an_engine_with_its_own_view_of_the_disk_must_show() -> None:
    command = plugins.command(PluginSpec(image="gocdnext/slack:v1"), {}, "shell")
    assert {str(plugins.shipped()), sys.prefix, sys.base_prefix} <= set(command.needs)
    assert all(any(word.startswith(folder) for folder in command.needs) for word in command.argv if word[0] == "/")


def test_each_of_our_plugins_has_an_implementation() -> None:
    manifests = sorted(path.parent.name for path in plugins.shipped().glob("*/plugin.yaml"))
    assert plugins.available() == manifests
