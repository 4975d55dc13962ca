"""Prints `docs/plugins.md`: its own words as they are, and below them the list made from the manifests in `plugins/`.
`python3 build.py docs` writes the file, a test holds it against the manifests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from gocdnext.pipeline.plugins import Manifest
from gocdnext.plugins.catalogue import load

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "plugins.md"
MARK = "<!-- Generated from here on by `python3 build.py docs`. Do not edit. -->"


def page() -> str:
    """The page as it should be. SystemExit when the mark is not in the file."""
    words, mark, _ = PAGE.read_text().partition(MARK)
    if not mark:
        raise SystemExit(f"{PAGE} lacks the line {MARK}")
    manifests = load([ROOT / "plugins"]).values()
    sections = [line for manifest in manifests for line in section(manifest)]
    return "\n".join([words + MARK, "", *overview(list(manifests)), *sections]).rstrip("\n")


def overview(manifests: list[Manifest]) -> Iterator[str]:
    yield "| plugin | category | |"
    yield "|---|---|---|"
    for manifest in manifests:
        first = " ".join(manifest.description.split("\n\n")[0].split())
        yield f"| [{manifest.name}](#{manifest.name}) | {manifest.category} | {cell(first)} |"
    yield ""


def section(manifest: Manifest) -> Iterator[str]:
    """One plugin: what it does, its inputs, its examples."""
    yield f"### {manifest.name}"
    yield ""
    yield manifest.description
    yield ""
    yield "| input | default | meaning |"
    yield "|---|---|---|"
    for entry in manifest.inputs:
        default = "required" if entry.required else f"`{entry.default}`" if entry.default else ""
        yield f"| `{entry.name}` | {default} | {cell(entry.description)} |"
    yield ""
    for example in manifest.examples:
        yield f"Example: {example.name}"
        yield ""
        yield "```yaml"
        yield example.yaml
        yield "```"
        yield ""


def cell(text: str) -> str:
    """A text in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(page())
