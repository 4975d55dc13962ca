"""Installs the dependencies of a Python project and runs a command in its environment."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import kit

VENV = Path(".venv")
EXTRA = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
CACHES = {"PIP_CACHE_DIR": "pip", "UV_CACHE_DIR": "uv", "POETRY_CACHE_DIR": "pypoetry"}


def work() -> int:
    command = kit.needed_block("command")
    env = {name: str(Path.cwd() / ".cache" / folder) for name, folder in CACHES.items() if not os.environ.get(name)}
    kit.enter()
    manager = kit.choice("manager", ("auto", "poetry", "uv", "pip"), "auto")
    extras = [extra for extra in re.split(r"[,\s]+", kit.text("extras")) if extra]
    if not all(map(EXTRA.fullmatch, extras)):
        raise kit.InputError(f"`extras` is {kit.shown(kit.text('extras'))}; write names with commas between them")
    every = kit.flag("all-extras", False)
    requirements = kit.text("requirements")
    if kit.flag("no-install", False):
        return kit.shell(command, env)
    project = read_project()
    manager = kind_of(project) if manager == "auto" else manager
    kit.say(f"installing with {manager}")
    install = {"poetry": with_poetry, "uv": with_uv}.get(manager)
    for step in install(extras, every) if install else with_pip(project, extras, every, requirements):
        code = kit.run(step, env | {"POETRY_VIRTUALENVS_IN_PROJECT": "true", "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
        if code != 0:
            raise kit.FailedError(f"installing the dependencies failed with {code}", code)
    return kit.shell(command, env | inside())


def read_project() -> dict[str, Any]:
    """What pyproject.toml says; empty without one."""
    try:
        return tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise kit.FailedError(f"pyproject.toml cannot be read: {error}") from None


def kind_of(project: dict[str, Any]) -> str:
    if Path("uv.lock").is_file():
        return "uv"
    return "poetry" if Path("poetry.lock").is_file() or "poetry" in project.get("tool", {}) else "pip"


def with_poetry(extras: list[str], every: bool) -> list[list[str]]:
    options = ["--all-extras"] if every else ["--extras", " ".join(extras)] if extras else []
    poetry = kit.program("poetry", "install Poetry, or set `manager` to pip")
    return [[poetry, "install", "--no-interaction", *options]]


def with_uv(extras: list[str], every: bool) -> list[list[str]]:
    frozen = ["--frozen"] if Path("uv.lock").is_file() else []
    options = ["--all-extras"] if every else [word for extra in extras for word in ("--extra", extra)]
    uv = kit.program("uv", "install uv, or set `manager` to pip")
    return [[uv, "sync", *frozen, *options]]


def with_pip(project: dict[str, Any], extras: list[str], every: bool, requirements: str) -> list[list[str]]:
    """A new environment, since many systems do not let pip install into theirs; and what is to be in it."""
    if requirements and not Path(requirements).is_file():
        raise kit.InputError(f"`requirements` is {kit.shown(requirements)}, and that is no file")
    if every:
        extras = list(project.get("project", {}).get("optional-dependencies", {}))
    wanted: list[str] = []
    if requirements or Path("requirements.txt").is_file():
        wanted += ["--requirement", requirements or "requirements.txt"]
    if "build-system" in project and (extras or not wanted):
        wanted += ["--editable", f".[{','.join(extras)}]" if extras else "."]
    elif extras:
        raise kit.InputError("`extras` need a project: there is no pyproject.toml with a build system here")
    python = kit.program("python3", "install Python")
    make = [[python, "-m", "venv", *([] if wanted else ["--without-pip"]), str(VENV)]] if not usable() else []
    return make + ([[str(VENV / "bin" / "python"), "-m", "pip", "install", *wanted]] if wanted else [])


def usable() -> bool:
    """Whether there is an environment already, perhaps from a cache."""
    return (VENV / "bin" / "python").exists() and (VENV / "bin" / "pip").exists()


def inside() -> dict[str, str]:
    """The variables of an activated environment."""
    folder = VENV.absolute()
    return {"VIRTUAL_ENV": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


if __name__ == "__main__":
    kit.main(work)
