"""`vsm`: the value stream map of a project as a tree. A pipeline that several start is drawn whole where it comes first."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gocdnext.cli import complete
from gocdnext.cli.common import Target, print_json, target_options
from gocdnext.cli.terminal import COLOURS, duration, safe, seconds

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from gocdnext.client.messages import ValueStream, VsmEdge, VsmNode

IN_A_PIPE = 2000
"""Columns of a line that no terminal shows."""


@click.command()
@target_options
@click.argument("project", metavar="PROJECT", shell_complete=complete.projects)
def vsm(target: Target, project: str) -> None:
    """Draw the value stream map of a project: what starts what, how it went, how long it waits.

    PROJECT is the slug of the project.
    """
    with target.client("asking for the value stream") as client:
        found = client.vsm(project)
    if target.as_json:
        print_json(found)
        return
    from rich.console import Console

    # In a pipe every pipeline is one line; on a terminal it is as wide as that.
    Console(width=None if sys.stdout.isatty() else IN_A_PIPE).print(_Drawing(found).tree())


class _Drawing:
    """One drawing. Every pipeline is in it, whatever its edges are: a circle is cut where it would begin again."""

    def __init__(self, found: ValueStream) -> None:
        self._found = found
        self._nodes: dict[str, VsmNode] = {node["name"]: node for node in found["nodes"]}
        self._edges: dict[str, list[VsmEdge]] = {}
        for edge in found["edges"]:
            self._edges.setdefault(edge["from_pipeline"], []).append(edge)
        self._drawn: set[str] = set()

    def tree(self) -> Tree:
        from rich.text import Text
        from rich.tree import Tree

        name, slug = (safe(self._found[key], colours=False) for key in ("project_name", "project_slug"))
        root = Tree(Text(name if name == slug else f"{name} ({slug})", style="bold"))
        started = {edge["to_pipeline"] for edge in self._found["edges"]}
        elsewhere = [name for name in self._edges if name not in self._nodes]
        first = [name for name in self._nodes if name not in started]
        for name in [*first, *elsewhere, *self._nodes]:
            if name not in self._drawn:
                self._grow(root, name, None)
        if not self._nodes:
            root.add(Text("no pipelines yet"))
        return root

    def _grow(self, parent: Tree, name: str, edge: VsmEdge | None) -> None:
        label = self._label(name, edge)
        if name in self._drawn:
            parent.add(label.append("  (as above)", style="dim"))
            return
        self._drawn.add(name)
        branch = parent.add(label)
        for following in sorted(self._edges.get(name, ()), key=lambda entry: str(entry["to_pipeline"])):
            self._grow(branch, following["to_pipeline"], following)

    def _label(self, name: str, edge: VsmEdge | None) -> Text:
        from rich.text import Text

        label = Text()
        if edge is not None and edge["stage"]:
            label.append(f"after {safe(edge['stage'], colours=False)}: ", style="dim")
        label.append(safe(name, colours=False), style="bold")
        node = self._nodes.get(name)
        if node is None:
            return label.append("  not a pipeline of this project", style="dim")
        if run := node.get("latest_run"):
            label.append(f"  #{run['counter']} ")
            label.append(run["status"], style=COLOURS.get(run["status"], ""))
            label.append(f" {duration(run.get('started_at'), run.get('finished_at'))}")
        else:
            label.append("  never run", style="dim")
        for figure in _figures(node, edge):
            label.append(f"  {figure}", style="dim")
        return label


def _figures(node: VsmNode, edge: VsmEdge | None) -> list[str]:
    """What is known beyond the newest run, each a few words."""
    words = []
    metrics = node.get("metrics")
    if metrics and metrics["runs_considered"]:
        words.append(f"{metrics['success_rate']:.0%} of {metrics['runs_considered']} in {metrics['window_days']} days")
        words.append(f"typically {seconds(metrics['lead_time_p50_seconds'])}")
    if edge is not None and edge.get("wait_samples"):
        words.append(f"waits {seconds(edge['wait_time_p50_seconds'])}")
    if node.get("has_services"):
        words.append("services")
    for material in node.get("git_materials") or ():
        branch = f" ({material['branch']})" if material.get("branch") else ""
        words.append(f"from {safe(material['url'] + branch, colours=False)}")
    return words
