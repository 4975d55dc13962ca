"""The catalogue of plugins, read from folders once at start (contract-runs 7.2).

A root holds `<name>/plugin.yaml`. The plugins of this program are the first root; a later root replaces a plugin of the
same name entirely. Reading a manifest is `gocdnext.pipeline.plugins`; nothing here looks at an implementation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import gocdnext
from gocdnext.errors import DomainError
from gocdnext.pipeline.plugins import Manifest, ManifestError, parse_manifest

MANIFEST = "plugin.yaml"
MAX_MANIFEST = 256 * 1024
"""Bytes of one manifest; the largest of the field has a few thousand."""
MAX_PLUGINS = 1000
"""Plugins of all roots together."""

Catalogue = Mapping[str, Manifest]
NO_PLUGINS: Final[Catalogue] = MappingProxyType({})
"""A catalogue against which nothing is checked."""


class CatalogueError(DomainError):
    """The catalogue cannot be read; the text names the file and says what is wrong with it."""


def shipped() -> Path:
    """The folder of our own plugins: inside the installed package, or beside it in a checkout."""
    package = Path(gocdnext.__file__).parent
    inside = package / "plugins" / "shipped"
    return inside if inside.is_dir() else package.parent / "plugins"


def roots(setting: str) -> tuple[Path, ...]:
    """Our own folder, then those of GOCDNEXT_PLUGIN_CATALOG_DIR: colon-separated, blanks around a name do not count."""
    return (shipped(), *(Path(part.strip()) for part in setting.split(":") if part.strip()))


def load(roots: Sequence[Path]) -> Catalogue:
    """The plugins of the roots by name, in order of their names. Raises CatalogueError.

    A root that does not exist counts as empty; so does a folder in it without a manifest.
    """
    found: dict[str, Manifest] = {}
    for root in roots:
        for folder in _folders(root):
            manifest = _manifest(folder)
            if manifest is not None:
                found[manifest.name] = manifest
            if len(found) > MAX_PLUGINS:
                raise CatalogueError(f"{root}: more than {MAX_PLUGINS} plugins; remove the ones that nobody uses")
    return dict(sorted(found.items()))


def _folders(root: Path) -> list[Path]:
    """What may be plugins. Links are followed: Kubernetes shows each entry of a ConfigMap as a link into a folder
    whose name begins with two dots, and that folder is no plugin."""
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CatalogueError(
            f"the plugin folder {root} cannot be read: {error.strerror}; "
            "GOCDNEXT_PLUGIN_CATALOG_DIR must name folders with one folder for each plugin"
        ) from None
    return [root / name for name in names]


def _manifest(folder: Path) -> Manifest | None:
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            content = file.read(MAX_MANIFEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CatalogueError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_MANIFEST:
        raise CatalogueError(f"{path} is over {MAX_MANIFEST // 1024} KiB; that is no manifest")
    try:
        return parse_manifest(content, folder.name)
    except ManifestError as error:
        raise CatalogueError(f"{folder.parent}/{error}") from None
