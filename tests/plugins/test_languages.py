"""python, node, go, rust, maven: the real tools, on projects that need nothing from a network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins.conftest import Outcome, Workspace

pytestmark = pytest.mark.slow
OFFLINE = {"PIP_NO_INDEX": "1", "npm_config_offline": "true", "GOPROXY": "off", "GOTOOLCHAIN": "local"}


def needs(tool: str) -> pytest.MarkDecorator:
    """Left out where the tool is missing; under CI the test runs and fails."""
    missing = shutil.which(tool) is None and os.environ.get("CI") != "true"
    return pytest.mark.skipif(missing, reason=f"needs {tool}")


@pytest.fixture
def offline(workspace: Workspace) -> Workspace:
    """No tool of these tests may ask a network. Toolchains of rustup stay where this machine has them."""
    rustup = os.environ.get("RUSTUP_HOME") or str(Path.home() / ".rustup")
    workspace.env |= OFFLINE | {"RUSTUP_HOME": rustup, "CARGO_NET_OFFLINE": "true"}
    return workspace


def fake(workspace: Workspace, tmp_path: Path, tool: str, text: str = 'echo "$0 $*" | sed "s|.*/||"') -> None:
    """A tool that this machine need not have; says what it was called with unless `text` is another script."""
    folder = tmp_path / "tools"
    folder.mkdir(exist_ok=True)
    (folder / tool).write_text(f"#!/bin/sh\n{text}\n")
    (folder / tool).chmod(0o755)
    if not workspace.env.get("PATH", "").startswith(str(folder)):
        workspace.env["PATH"] = f"{folder}:{workspace.env.get('PATH', os.environ['PATH'])}"


def refused(outcome: Outcome, words: str, code: int = 2) -> None:
    assert outcome.code == code, outcome.text
    assert words in outcome.err
    assert "Traceback" not in outcome.err


# python


def test_python_in_an_environment_of_its_own(offline: Workspace) -> None:
    (offline.path / "app").mkdir()
    command = "python -c 'import sys; print(sys.prefix)'\nfalse\necho not reached"
    outcome = offline.run("python", {"command": command, "working-dir": "app"})
    assert outcome.code == 1
    assert f"{offline.path}/app/.venv\n" in outcome.out
    assert "not reached" not in outcome.out


def test_python_installs_requirements_and_keeps_downloads(offline: Workspace) -> None:
    (offline.path / "requirements.txt").write_text("# nothing\n")
    outcome = offline.good("python", {"command": 'python -m pip --version; echo "$PIP_CACHE_DIR"'})
    assert ".venv" in outcome.out
    assert f"{offline.path}/.cache/pip\n" in outcome.out
    again = offline.good("python", {"command": "python -c 'print(6 * 7)'", "requirements": "requirements.txt"})
    assert "42" in again.out
    (offline.path / "requirements.txt").write_text("no-such-package-for-certain\n")
    outcome = offline.run("python", {"command": "echo ran"})
    refused(outcome, "installing the dependencies failed with 1", 1)
    assert "ran\n" not in outcome.out


def test_python_without_installing(offline: Workspace) -> None:
    (offline.path / "requirements.txt").write_text("no-such-package\n")
    outcome = offline.good("python", {"command": "exit 0", "no-install": "true"})
    assert outcome.out == ""
    assert not (offline.path / ".venv").exists()
    assert offline.run("python", {"command": "exit 5", "no-install": "true"}).code == 5


def test_python_is_that_of_the_job_not_the_agents(offline: Workspace, tmp_path: Path) -> None:
    """And sees the job's variables for Python, which the plugin itself does not obey."""
    (offline.path / "mine.py").write_text("print('mine')")
    command = "python3 -c 'import mine'"
    assert "mine\n" in offline.good("python", {"command": command, "no-install": "true"}, PYTHONPATH=".").out


@pytest.mark.parametrize(
    ("files", "inputs", "called"),
    [
        ({"uv.lock": ""}, {}, "uv sync --frozen"),
        ({"uv.lock": ""}, {"extras": "a, b"}, "uv sync --frozen --extra a --extra b"),
        ({}, {"manager": "uv", "all-extras": "true"}, "uv sync --all-extras"),
        ({"poetry.lock": ""}, {"extras": "a b"}, "poetry install --no-interaction --extras a b"),
        ({"pyproject.toml": "[tool.poetry]\n"}, {"all-extras": "yes"}, "poetry install --no-interaction --all-extras"),
    ],
)
def test_python_with_other_managers(
    offline: Workspace, tmp_path: Path, files: dict[str, str], inputs: dict[str, str], called: str
) -> None:
    for tool in ("uv", "poetry"):
        fake(offline, tmp_path, tool, 'echo "$0 $* $POETRY_VIRTUALENVS_IN_PROJECT" | sed "s|.*/||"')
    for name, text in files.items():
        (offline.path / name).write_text(text)
    outcome = offline.good("python", {"command": 'echo "$VIRTUAL_ENV"', **inputs})
    assert f"{called} true\n{offline.path}/.venv\n" in outcome.out


def test_python_extras_of_a_project_for_pip(offline: Workspace, tmp_path: Path) -> None:
    """What pip is asked for: the environment is one that is there already, with a pip that tells."""
    project = '[build-system]\nrequires = []\n[project]\nname = "x"\n[project.optional-dependencies]\na = []\nb = []\n'
    (offline.path / "pyproject.toml").write_text(project)
    (offline.path / ".venv" / "bin").mkdir(parents=True)
    for tool in ("python", "pip"):
        path = offline.path / ".venv" / "bin" / tool
        path.write_text('#!/bin/sh\necho "called $*"\n')
        path.chmod(0o755)
    for inputs, wanted in (
        ({"all-extras": "true"}, ".[a,b]"),
        ({"extras": "a"}, ".[a]"),
        ({}, "."),
    ):
        outcome = offline.good("python", {"command": ":", **inputs})
        assert f"called -m pip install --editable {wanted}\n" in outcome.out


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "the input `command` is missing"),
        ({"command": "x", "manager": "conda"}, "write auto or poetry or uv or pip"),
        ({"command": "x", "requirements": "none.txt"}, "`requirements` is 'none.txt', and that is no file"),
        ({"command": "x", "extras": "a;b"}, "`extras` is 'a;b'"),
        ({"command": "x", "extras": "a"}, "`extras` need a project"),
        ({"command": "x", "working-dir": "no"}, "`working-dir` is 'no': No such file"),
    ],
)
def test_wrong_inputs_of_python(offline: Workspace, inputs: dict[str, str], words: str) -> None:
    refused(offline.run("python", inputs), words)


def test_python_with_a_broken_project(offline: Workspace) -> None:
    (offline.path / "pyproject.toml").write_text("[")
    refused(offline.run("python", {"command": "x"}), "pyproject.toml cannot be read", 1)


# node


def package(where: Path, lock: bool = True, **more: object) -> None:
    """A project that needs no other package."""
    body = {"name": "x", "version": "1.0.0", "scripts": {"test": "echo tested; exit 3"}, **more}
    (where / "package.json").write_text(json.dumps(body))
    if lock:
        root = {key: body[key] for key in ("name", "version")}
        content = {**root, "lockfileVersion": 3, "requires": True, "packages": {"": root}}
        (where / "package-lock.json").write_text(json.dumps(content))


@needs("npm")
def test_node_installs_and_runs(offline: Workspace) -> None:
    package(offline.path)
    outcome = offline.run("node", {"command": "npm test --silent\necho not reached"})
    assert outcome.code == 3, outcome.text
    assert "node: installing with npm\n" in outcome.out
    assert "tested\n" in outcome.out
    assert "not reached" not in outcome.out
    assert (offline.path / ".cache" / "npm").is_dir()
    assert not list((Path(offline.env["HOME"])).iterdir())


@needs("npm")
def test_node_only_installs(offline: Workspace) -> None:
    (offline.path / "web").mkdir()
    package(offline.path / "web")
    offline.good("node", {"working-dir": "web", "prod": "true"})
    package(offline.path / "web", dependencies={"no-such-package": "1.0.0"})
    outcome = offline.run("node", {"working-dir": "web", "command": "echo ran"})
    refused(outcome, "installing the packages failed with", 1)
    assert "ran\n" not in outcome.out


@needs("node")
def test_node_without_installing(offline: Workspace) -> None:
    outcome = offline.good("node", {"command": "node -e 'console.log(6 * 7)'", "install": "false"})
    assert outcome.out == "42\n"


@needs("node")
@pytest.mark.parametrize(
    ("files", "inputs", "called"),
    [
        ({"pnpm-lock.yaml": ""}, {}, "pnpm install --frozen-lockfile"),
        ({"pnpm-lock.yaml": ""}, {"frozen": "false", "prod": "true"}, "pnpm install --no-frozen-lockfile --prod"),
        ({"yarn.lock": ""}, {}, "yarn install --non-interactive --frozen-lockfile"),
        ({"yarn.lock": "", ".yarnrc.yml": ""}, {}, "yarn install --immutable"),
        ({"yarn.lock": "", ".yarnrc.yml": ""}, {"prod": "true"}, "yarn workspaces focus --production"),
        ({"yarn.lock": ""}, {"manager": "npm"}, "npm install --no-audit --no-fund"),
        ({"package-lock.json": ""}, {"prod": "true"}, "npm ci --no-audit --no-fund --omit=dev"),
        ({"package-lock.json": ""}, {"frozen": "false"}, "npm install --no-audit --no-fund"),
    ],
)
def test_node_with_each_manager(
    offline: Workspace, tmp_path: Path, files: dict[str, str], inputs: dict[str, str], called: str
) -> None:
    for tool in ("npm", "pnpm", "yarn"):
        fake(offline, tmp_path, tool)
    package(offline.path, lock=False)
    for name, text in files.items():
        (offline.path / name).write_text(text)
    assert f"{called}\n" in offline.good("node", inputs).out


@needs("node")
def test_node_takes_the_manager_that_the_project_names(offline: Workspace, tmp_path: Path) -> None:
    fake(offline, tmp_path, "pnpm")
    package(offline.path, packageManager="pnpm@9.1.0")
    assert "pnpm install" in offline.good("node", {}).out


@needs("node")
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"install": "false"}, "there is nothing to do"),
        ({"manager": "bun"}, "write auto or npm or pnpm or yarn"),
        ({"frozen": "maybe"}, "write true or false"),
        ({"command": "x"}, "there is no package.json in ."),
        ({"working-dir": "no"}, "`working-dir` is 'no': No such file"),
    ],
)
def test_wrong_inputs_of_node(offline: Workspace, inputs: dict[str, str], words: str) -> None:
    refused(offline.run("node", inputs), words)


# go


@pytest.fixture
def module(offline: Workspace) -> Workspace:
    (offline.path / "app").mkdir()
    (offline.path / "app" / "go.mod").write_text("module example.org/x\n\ngo 1.18\n")
    # Without imports: only what it says itself is compiled.
    (offline.path / "app" / "x.go").write_text("package x\n\nfunc One() int { return 1 }\n")
    return offline


@needs("go")
def test_go(module: Workspace, tmp_path: Path) -> None:
    outcome = module.good("go", {"command": "build -v ./...", "working-dir": "app", "cgo": "false"})
    assert "example.org/x" in outcome.text
    assert (module.path / ".cache" / "go" / "build").is_dir()
    (module.path / "app" / "x.go").write_text("package")
    assert module.run("go", {"command": "vet ./...", "working-dir": "app"}).code == 1
    # What it is told, whatever an older one makes of it.
    fake(module, tmp_path, "go", 'printf "%s\\n" "$CGO_ENABLED" "$GOTOOLCHAIN" "$GOFLAGS"')
    outcome = module.good("go", {"command": "env", "cgo": "0", "toolchain": "local"})
    assert outcome.out == "0\nlocal\n-modcacherw\n"


@needs("go")
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "go: error: the input `command` is missing"),
        ({"command": "version", "cgo": "maybe"}, "`cgo` is 'maybe'; write true or false"),
        ({"command": "version", "working-dir": "no"}, "`working-dir` is 'no': there is no such directory"),
    ],
)
def test_wrong_inputs_of_go(module: Workspace, inputs: dict[str, str], words: str) -> None:
    refused(module.run("go", inputs), words)


# rust


@pytest.fixture
def crate(offline: Workspace) -> Workspace:
    (offline.path / "src").mkdir()
    (offline.path / "Cargo.toml").write_text('[package]\nname = "x"\nversion = "0.1.0"\nedition = "2021"\n')
    (offline.path / "src" / "main.rs").write_text('fn main() { println!("{} {}", "tested", cfg!(mine)); }\n')
    return offline


@needs("cargo")
def test_rust(crate: Workspace) -> None:
    outcome = crate.good("rust", {"command": "run --quiet", "rustflags": "--cfg mine --cfg other"})
    assert outcome.out == "tested true\n"
    assert crate.run("rust", {"command": "no-such-command"}).code == 101


@needs("cargo")
def test_the_users_cargo_configuration_stays_in_force(crate: Workspace, tmp_path: Path) -> None:
    (tmp_path / "home" / ".cargo").mkdir()
    (tmp_path / "home" / ".cargo" / "config.toml").write_text('[build]\nrustflags = ["--cfg", "mine"]\n')
    assert crate.good("rust", {"command": "run --quiet"}).out == "tested true\n"


@pytest.mark.skipif(shutil.which("rustup") is None, reason="no distribution has rustup: where cargo came with one")
def test_a_toolchain_that_is_there_and_one_that_is_not(crate: Workspace) -> None:
    listed = subprocess.run(["rustup", "toolchain", "list"], capture_output=True, text=True, check=True).stdout
    name = re.split(r"[\s(]", listed)[0]
    assert "cargo" in crate.good("rust", {"command": "--version", "toolchain": name}).out
    refused(crate.run("rust", {"command": "--version", "toolchain": "1.0.7"}), "rustup toolchain install 1.0.7", 1)


@needs("cargo")
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "rust: error: the input `command` is missing"),
        ({"command": "check", "toolchain": "-x"}, "`toolchain` is '-x', which is no name of one"),
        ({"command": "check", "working-dir": "no"}, "`working-dir` is 'no': there is no such directory"),
    ],
)
def test_wrong_inputs_of_rust(crate: Workspace, inputs: dict[str, str], words: str) -> None:
    refused(crate.run("rust", inputs), words)


# maven

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>org.example</groupId><artifactId>x</artifactId><version>1</version><packaging>pom</packaging>
</project>
"""


@needs("mvn")
def test_maven(offline: Workspace) -> None:
    (offline.path / "app").mkdir()
    (offline.path / "app" / "pom.xml").write_text(POM)
    inputs = {"command": "--offline validate", "working-dir": "app", "color": "false", "parallel": "1C"}
    outcome = offline.good("maven", {**inputs, "maven-opts": "-Dmine=yes", "build-cache": "false"})
    assert "BUILD SUCCESS" in outcome.out
    assert not re.search(r"\x1b\[[1-9]", outcome.out)
    assert (offline.path / ".m2" / "repository").is_dir()
    outcome = offline.run("maven", {**inputs, "command": "--offline no-such-phase"})
    assert outcome.code == 1
    assert "Unknown lifecycle phase" in outcome.out


@needs("mvn")
def test_maven_with_generated_settings(offline: Workspace, tmp_path: Path) -> None:
    """Read by Maven itself: the settings are good, and the password is in no argument, file or line."""
    (offline.path / "pom.xml").write_text(POM)
    record = offline.recording("mvn", tmp_path)
    inputs = {"command": "--offline validate", "nexus-url": "https://nexus.example.org/repository/all/?a&b"}
    outcome = offline.good("maven", {**inputs, "nexus-username": "ci", "nexus-password": "s3cr3t-of-nexus"})
    assert "BUILD SUCCESS" in outcome.out
    assert "--settings\n/proc/" in record.read_text()
    assert "s3cr3t" not in record.read_text() + outcome.text


def test_what_the_generated_settings_say(offline: Workspace, tmp_path: Path) -> None:
    script = 'while [ $# -gt 0 ]; do [ "$1" = --settings ] && cat "$2"; shift; done; echo "$MAVEN_PLUGIN_PASSWORD"'
    fake(offline, tmp_path, "mvn", script)
    inputs = {"command": "verify", "nexus-url": "https://nexus.example.org/all?a&b", "release-repo-id": "own<&"}
    outcome = offline.good("maven", {**inputs, "nexus-username": "ci", "nexus-password": "s3cr3t"})
    assert "<mirrorOf>*</mirrorOf><url>https://nexus.example.org/all?a&amp;b</url>" in outcome.out
    assert re.findall("<server><id>(.*?)</id>", outcome.out) == ["nexus", "snapshots", "own&lt;&amp;"]
    assert outcome.out.count("<password>${env.MAVEN_PLUGIN_PASSWORD}</password>") == 3
    assert outcome.out.splitlines()[-1] == "s3cr3t"
    outcome = offline.good("maven", inputs)
    assert "<server>" not in outcome.out


@needs("mvn")
def test_maven_with_the_jdk_that_is_wanted(offline: Workspace, tmp_path: Path) -> None:
    (tmp_path / "jdk").mkdir()
    (tmp_path / "jdk" / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="1.8.0_400"\n')
    fake(offline, tmp_path, "mvn", 'echo "$JAVA_HOME"')
    home = str(tmp_path / "jdk")
    assert offline.good("maven", {"command": "verify", "jdk": "8"}, JAVA_HOME=home).out == f"{home}\n"
    outcome = offline.run("maven", {"command": "verify", "jdk": "3"})
    refused(outcome, "there is no Java 3 on this machine", 1)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "the input `command` is missing"),
        ({"parallel": "many"}, "`parallel` is 'many'"),
        ({"jdk": "x"}, "`jdk` is 'x'; write a version such as 21"),
        ({"settings": "none.xml"}, "`settings` is 'none.xml', and that is no file"),
        ({"settings": "none.xml", "nexus-url": "http://x"}, "exclude each other"),
        ({"nexus-url": "nexus"}, "`nexus-url` must be an address"),
        ({"color": "blue"}, "write true or false"),
    ],
)
def test_wrong_inputs_of_maven(offline: Workspace, inputs: dict[str, str], words: str) -> None:
    given = {"command": "verify", **inputs} if inputs else {}
    refused(offline.run("maven", given), words)


# All of them


@pytest.mark.parametrize(
    ("plugin", "tool", "inputs"),
    [
        ("node", "node", {"command": "x", "install": "false"}),
        ("go", "go", {"command": "x"}),
        ("rust", "cargo", {"command": "x"}),
        ("maven", "mvn", {"command": "x"}),
        ("python", "uv", {"command": "x", "manager": "uv"}),
    ],
)
def test_a_tool_that_is_not_there(
    offline: Workspace, tmp_path: Path, plugin: str, tool: str, inputs: dict[str, str]
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("sh", "env"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    outcome = offline.run(plugin, inputs, PATH=str(tmp_path / "bin"))
    refused(outcome, f"there is no `{tool}` on this machine", 127)


def test_this_interpreter_is_not_what_projects_are_built_with(offline: Workspace) -> None:
    outcome = offline.good("python", {"command": "python -c 'import sys; print(sys.executable)'"})
    assert sys.executable not in outcome.out
