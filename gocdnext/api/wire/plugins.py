"""The catalogue of plugins (contract-runs 7). No logic here."""

from __future__ import annotations

from gocdnext.api.wire.base import Wire


class PluginInput(Wire):
    name: str
    required: bool
    default: str = ""
    description: str = ""


class PluginExample(Wire):
    yaml: str
    name: str = ""
    description: str = ""


class Plugin(Wire):
    name: str
    inputs: list[PluginInput]
    description: str = ""
    category: str = ""
    examples: list[PluginExample] = []


class Plugins(Wire):
    plugins: list[Plugin]
