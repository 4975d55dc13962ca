"""How a plugin task runs where there are no containers: our own implementation of it, if there is one.

An implementation is `plugin.py` or `plugin.sh` beside the manifest (contract-cli-plugins 5.4). This module only answers
with a command; the engine runs it, in the same directory and with the same base of variables as a script.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gocdnext
from gocdnext.agent.engines import EngineError
from gocdnext.pipeline.substitution import plugin_env
from gocdnext.pipeline.uses import own_plugin
from gocdnext.plugins.catalogue import shipped
from gocdnext.proto.agent_pb2 import PluginSpec

PYTHON, SHELL = "plugin.py", "plugin.sh"
LAUNCHER = "run.py"


@dataclass(frozen=True)
class PluginCommand:
    """What to start. `env` is the task's: PLUGIN_* and the job's own variables, which win (protocol-agent 3.7)."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    needs: tuple[str, ...]
    """Folders of this machine that the command reads: an engine that hides the disk must show these, read-only."""


def command(plugin: PluginSpec, env: Mapping[str, str], engine: str) -> PluginCommand:
    """The command for a plugin task. Raises EngineError, naming the engine, when the plugin is not one of ours."""
    root = shipped()
    folder = _folder(root, plugin.image, engine)
    settings = {plugin_env(name): value for name, value in plugin.settings.items()}
    if (folder / SHELL).is_file():
        return PluginCommand(("sh", str(folder / SHELL)), {**settings, **env}, (str(root),))
    # -I: neither the job's PYTHON* variables nor its directory decide what the plugin's interpreter imports. They stay
    # in the environment, for what the plugin starts.
    libraries = str(Path(gocdnext.__file__).parent.parent)
    argv = (sys.executable, "-I", str(root / LAUNCHER), folder.name, libraries)
    needs = (str(root), libraries, sys.prefix, sys.base_prefix)
    return PluginCommand(argv, {**settings, **env}, tuple(dict.fromkeys(needs)))


def available() -> list[str]:
    """The names of the plugins that run without a container."""
    files = (*shipped().glob(f"*/{PYTHON}"), *shipped().glob(f"*/{SHELL}"))
    return sorted(file.parent.name for file in files)


def _folder(root: Path, image: str, engine: str) -> Path:
    name = own_plugin(image)
    known = available()
    if name in known:
        return root / name
    raise EngineError(
        f"plugin {image}: the {engine} engine cannot run plugins from images, and this is none of those that need no image "
        f"({', '.join(f'gocdnext/{each}' for each in known)}); run this job on an agent with a container engine, or "
        "write the step as a script"
    )
