"""`validate`: what a server would say about pipeline files, without one. Needs neither network nor database."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gocdnext.cli.common import FAILED, Failure, print_json
from gocdnext.cli.terminal import safe

if TYPE_CHECKING:
    from gocdnext.pipeline import ParsedFile, Problem
    from gocdnext.plugins.catalogue import Catalogue

CONFIG_FOLDER = ".gocdnext"
ENDINGS = (".yaml", ".yml")
MAX_FILE_SIZE = 5 * 1024 * 1024
"""Bytes: what apply takes in all (contract-runs 2.4)."""
LONGEST_SHOWN_LINE = 160


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True), default=".")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def validate(path: Path, as_json: bool) -> None:
    """Check pipeline files: PATH is a file, a folder with .gocdnext in it, or such a folder itself.

    Exit code 1 when a server would refuse one of them.
    """
    files = {str(file): read(file) for file in find(path)}
    parsed, problems = check(files)
    if as_json:
        print_json(document(files, parsed, problems))
    else:
        for file, content in files.items():
            if file in problems:
                show_failure(file, problems[file], content)
                continue
            pipeline = parsed[file].pipeline
            click.echo(safe(f'OK   {file} — pipeline "{pipeline.name}", {len(pipeline.jobs)} job(s)', colours=False))
    raise SystemExit(FAILED if problems else 0)


def find(path: Path) -> list[Path]:
    """The files that a path means. Ends the command when there is none."""
    if path.is_file():
        return [path]
    folder = path / CONFIG_FOLDER if (path / CONFIG_FOLDER).is_dir() else path
    found = sorted((file for file in folder.iterdir() if file.suffix in ENDINGS), key=lambda file: file.name)
    if not found:
        raise Failure(f"there is no pipeline file in {folder}: it needs a file like {CONFIG_FOLDER}/ci.yaml")
    return found


def read(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_FILE_SIZE:
            raise Failure(f"{file} is over {MAX_FILE_SIZE // 1024**2} MiB, which no server takes")
        return file.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}") from None


def check(files: dict[str, bytes]) -> tuple[dict[str, ParsedFile], dict[str, list[Problem]]]:
    """What can be read, and every problem, each by file."""
    from gocdnext.pipeline import PipelineError, Problem, check_set, parse_file, parse_files
    from gocdnext.pipeline.plugins import check_plugins
    from gocdnext.projects import supported

    parsed: dict[str, ParsedFile] = {}
    found: list[Problem] = []
    for file, content in files.items():
        try:
            parsed[file] = parse_file(content, file)
        except PipelineError as error:
            found += error.problems
    try:
        # Again as one set: two files may use the same name.
        parse_files([(file, files[file]) for file in parsed])
    except PipelineError as error:
        found += error.problems
    found += check_set(parsed.values())
    plugins = catalogue()
    for file, entry in parsed.items():
        found += check_plugins(entry.pipeline, file, plugins, entry.source)
        found += [
            Problem(file=file, line=1, column=1, path="", kind="not_available", message=reason)
            for reason in supported.refused(entry.pipeline)
        ]
    problems: dict[str, list[Problem]] = {}
    for problem in found:
        problems.setdefault(problem.file, []).append(problem)
    return parsed, problems


def catalogue() -> Catalogue:
    """Our plugins and those of this machine's GOCDNEXT_PLUGIN_CATALOG_DIR: what a server here would check against."""
    from gocdnext.plugins.catalogue import CatalogueError, load, roots

    try:
        return load(roots(os.environ.get("GOCDNEXT_PLUGIN_CATALOG_DIR", "")))
    except CatalogueError as error:
        raise Failure(str(error)) from None


def show_failure(file: str, problems: list[Problem], content: bytes) -> None:
    """Every problem of a file with its place, the line there and a mark below it."""
    lines = content.decode("utf-8", "replace").removeprefix("\ufeff").splitlines()
    click.echo(f"{click.style('FAIL', fg='red')} {safe(file, colours=False)}: {len(problems)} problem(s)")
    for problem in problems:
        place = f" ({problem.path})" if problem.path else ""
        text = f"{problem.file}:{problem.line}:{problem.column}: {problem.message}{place}"
        click.echo(f"  {safe(text, colours=False)}")
        if problem.kind != "not_available" and problem.line <= len(lines):
            for row in excerpt(lines[problem.line - 1], problem.column):
                click.echo(f"      {row}")
        if problem.hint:
            click.echo(f"    hint: {safe(problem.hint, colours=False)}")


def excerpt(line: str, column: int) -> tuple[str, str]:
    """A line cut to a readable length around the column (from 1), and a line with a mark under that column."""
    at = min(column - 1, len(line))
    start = max(0, at - LONGEST_SHOWN_LINE // 2)
    shown = line[start : start + LONGEST_SHOWN_LINE]
    before = "".join("\t" if char == "\t" else " " * width(char) for char in shown[: at - start])
    return safe(shown, colours=False), f"{before}^"


def width(char: str) -> int:
    """Columns that a character takes in a terminal."""
    return 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1


def document(
    files: dict[str, bytes],
    parsed: dict[str, ParsedFile],
    problems: dict[str, list[Problem]],
) -> dict[str, object]:
    """The findings as one JSON document."""
    import msgspec

    rows = []
    for file in files:
        row: dict[str, object] = {"file": file, "ok": file not in problems}
        if file in parsed:
            row |= {"pipeline": parsed[file].pipeline.name, "jobs": len(parsed[file].pipeline.jobs)}
        row["problems"] = [msgspec.to_builtins(problem) for problem in problems.get(file, [])]
        rows.append(row)
    return {"ok": not problems, "files": rows}
