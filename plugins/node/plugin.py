"""Installs the packages of a Node.js project and runs a command."""

import json
import os
from pathlib import Path
from typing import Any

import kit

MANAGERS = ("npm", "pnpm", "yarn")
LOCKS = {"pnpm-lock.yaml": "pnpm", "yarn.lock": "yarn", "package-lock.json": "npm", "npm-shrinkwrap.json": "npm"}
CACHES = {"npm_config_cache": "npm", "npm_config_store_dir": "pnpm", "YARN_CACHE_FOLDER": "yarn"}


def work() -> int:
    command = kit.block("command")
    manager = kit.choice("manager", ("auto", *MANAGERS), "auto")
    install = kit.flag("install", True)
    frozen, production = kit.flag("frozen", True), kit.flag("prod", False)
    if not command and not install:
        raise kit.InputError("there is nothing to do: `command` is empty and `install` is false")
    kit.program("node", "install Node.js")
    env = {name: str(Path.cwd() / ".cache" / folder) for name, folder in CACHES.items() if not os.environ.get(name)}
    kit.enter()
    if install:
        project = read_project()
        manager = kind_of(project) if manager == "auto" else manager
        program = kit.program(manager, f"install it, or set `manager` to one of {', '.join(MANAGERS)}")
        kit.say(f"installing with {manager}")
        code = kit.run([program, *arguments(manager, frozen, production)], env)
        if code != 0:
            raise kit.FailedError(f"installing the packages failed with {code}", code)
    if not command:
        return 0
    path = f"{Path('node_modules/.bin').absolute()}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return kit.shell(command, {**env, "PATH": path})


def read_project() -> dict[str, Any]:
    try:
        project = json.loads(Path("package.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise kit.InputError(
            f"there is no package.json in {kit.text('working-dir', '.')}; set `working-dir`, or `install: false`"
        ) from None
    except ValueError as error:
        raise kit.FailedError(f"package.json is not JSON: {error}") from None
    if not isinstance(project, dict):
        raise kit.FailedError("package.json is not an object")
    return project


def kind_of(project: dict[str, Any]) -> str:
    """The manager that package.json names, else that of the lock file, else npm."""
    named = str(project.get("packageManager", "")).partition("@")[0]
    if named in MANAGERS:
        return named
    return next((manager for lock, manager in LOCKS.items() if Path(lock).is_file()), "npm")


def arguments(manager: str, frozen: bool, production: bool) -> list[str]:
    """How each manager is told to install."""
    if manager == "npm":
        locked = any(Path(lock).is_file() for lock, owner in LOCKS.items() if owner == "npm")
        if frozen and not locked:
            kit.say("warning: there is no lock file, so that nothing says exactly what to install")
        verb = "ci" if frozen and locked else "install"
        return [verb, "--no-audit", "--no-fund", *(["--omit=dev"] if production else [])]
    if manager == "pnpm":
        return [
            "install",
            "--frozen-lockfile" if frozen else "--no-frozen-lockfile",
            *(["--prod"] if production else []),
        ]
    if not Path(".yarnrc.yml").is_file():  # Yarn 1
        flags = ["--frozen-lockfile"] if frozen else []
        return ["install", "--non-interactive", *flags, *(["--production"] if production else [])]
    if production:
        return ["workspaces", "focus", "--production"]
    return ["install", "--immutable" if frozen else "--no-immutable"]


if __name__ == "__main__":
    kit.main(work)
