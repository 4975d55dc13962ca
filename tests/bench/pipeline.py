"""Figures of the pipeline reader: ordinary files, and files made to hurt. Run as a script it prints the table."""

from __future__ import annotations

import time
import tracemalloc

import yaml

from gocdnext.pipeline import PipelineError, parse


def ordinary(jobs: int) -> str:
    """A pipeline of about 150 bytes a job: stages, needs, scripts, variables, tags."""
    lines = ["name: big", "stages: [build, test, ship]", "variables: {A: b}", "jobs:"]
    for number in range(jobs):
        stage = "build" if number < jobs // 2 else "test"
        need = f"job-{number - 1}" if number else ""
        lines += [
            f"  job-{number}:",
            f"    stage: {stage}",
            "    image: golang:1.25",
            f"    needs: [{need}]",
            "    script: [make all, make test]",
            f"    variables: {{A: x{number}, B: y}}",
            "    tags: [linux]",
        ]
    return "\n".join(lines) + "\n"


def _bomb() -> str:
    first = "variables:\n  a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    levels = (f"  {chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(9))
    return first + "".join(levels)


def _job(keys: str) -> str:
    return f"stages: [s]\njobs:\n  a: {{stage: s, script: [x], {keys}}}\n"


def _many(count: int, job: str) -> str:
    return "stages: [s]\njobs:\n" + "".join(f"  j{n}: {job.replace('#', str(n))}\n" for n in range(count))


def _dimensions(count: int) -> str:
    return ", ".join(f"D{n}: [{', '.join(map(str, range(50)))}]" for n in range(count))


HOSTILE: list[tuple[str, str | bytes, str]] = [
    ("alias bomb", _bomb(), "limit"),
    ("10,000 flow sequences", "[" * 10_000, "limit"),
    ("5 MiB of flow sequences", "[" * 5_000_000, "limit"),
    ("10,000 flow mappings", "{a: " * 10_000, "limit"),
    ("10,000 block sequences", "- " * 10_000 + "a", "limit"),
    ("2,000 block mappings", "\n".join(" " * n + "a:" for n in range(2_000)), "limit"),
    (
        "2,000 merges of merges",
        "jobs:\n  .j0: &j0 {stage: s}\n" + "".join(f"  .j{n}: &j{n} {{<<: *j{n - 1}}}\n" for n in range(1, 2_000)),
        "limit",
    ),
    ("100,000 jobs", _many(100_000, "{stage: s, script: [x]}"), "limit"),
    ("39,000 empty jobs", _many(39_000, ""), "limit"),
    ("4,000 wrong jobs", _many(4_000, "{stage: nope, foo: 1, bar: 2}"), "unknown_key"),
    ("4,000 unknown needs", _many(4_000, "{stage: s, needs: [jj#x]}"), "needs_unknown"),
    ("60,000 unknown needs", _job("needs: [" + ", ".join(f"n{n}" for n in range(60_000)) + "]"), "needs_unknown"),
    ("4,000 extending in a row", _many(4_000, "{stage: s, extends: j#x}"), "extends_unknown"),
    ("6 MiB", "#" * 6_300_000, "limit"),
    ("6 MiB of bytes", b"#" * 6_300_000, "limit"),
    ("6 MiB of two-byte letters", "ä" * 3_100_000, "limit"),
    ("5 MiB of comments", "# a\n" * 1_300_000, "yaml_empty"),
    ("5 MiB of line breaks", "\n" * 5_200_000, "yaml_empty"),
    ("5 MiB of scalars", "stages: [" + "a," * 2_500_000 + "]", "limit"),
    ("5 MiB in one word", "x" * 5_200_000, "wrong_type"),
    (
        "5 MiB of script, 4,000 times",
        "stages: [s]\njobs:\n  .b: {script: [&s '"
        + "x" * 4_500_000
        + "']}\n"
        + "".join(f"  j{n}: {{stage: s, script: [*s]}}\n" for n in range(4_000)),
        "limit",
    ),
    (
        "2 MiB of script, inherited",
        "stages: [s]\njobs:\n  .b: {script: ['"
        + "x" * 2_000_000
        + "']}\n"
        + "".join(f"  j{n}: {{stage: s, extends: .b}}\n" for n in range(3_900)),
        "limit",
    ),
    ("matrix explosion", _job(f"parallel: {{matrix: [{{{_dimensions(200)}}}]}}"), "matrix_limit"),
    (
        "3,900 dimensions",
        _job("parallel: {matrix: [{" + ", ".join(f"D{n}: [a]" for n in range(3_900)) + "}]}"),
        "matrix_limit",
    ),
    (
        "9,000 matrix entries",
        _job("parallel: {matrix: [" + ", ".join(f"{{D: [a{n}]}}" for n in range(9_000)) + "]}"),
        "matrix_limit",
    ),
    ("python object", "name: !!python/object/apply:os.system [id]\n", "wrong_type"),
    ("NUL", "name: a\0b\n", "yaml_syntax"),
    ("escaped NUL", 'name: "a\\0b"\n', "yaml_syntax"),
    ("lone surrogate", "name: \ud800\n", "yaml_syntax"),
    ("not UTF-8", b"name: \xff\n", "yaml_syntax"),
    ("UTF-16", "name: a\n".encode("utf-16"), "yaml_syntax"),
    ("alias of itself", "stages: &a [*a]\n", "yaml_syntax"),
    ("braces in a glob", "when: {paths: ['" + "{" * 100_000 + "']}\n", "when_paths"),
    ("brackets in a glob", "when: {paths: ['" + "[" * 100_000 + "']}\n", "when_paths"),
    (
        "500,000 openings of references",
        _job("deploy: {environment: e, version: '" + "${{ " * 500_000 + "}}'}"),
        "deploy_ref",
    ),
    ("100,000 references", _job("deploy: {environment: e, version: '" + "${{ x }}" * 100_000 + "'}"), "deploy_ref"),
    ("blanks in a cache key", _job("cache: [{key: '{{ hash " + " " * 1_000 + "', paths: [x]}]"), "cache_key_template"),
    ("500,000 digits", _job("retry: " + "1" * 500_000), "wrong_type"),
    (
        "duration of digits",
        _job("timeout: '" + "1" * 500_000 + "'").replace("script: [x]", "approval: {}"),
        "gate_timeout",
    ),
    (
        "3,900 unknown keys",
        "jobs:\n  a:\n" + "".join(f"    k{'x' * 30}{n}: 1\n" for n in range(3_900)),
        "unknown_key",
    ),
    ("long label", "services: [{image: a, node_selector: {" + "a-" * 400 + "/x: v}}]\n", "service_scheduling"),
]


def figures() -> list[tuple[str, float, str, float]]:
    """Name, value, unit, goal. Times are processor time, the best of several runs."""
    rows = [
        ("parse a 100-job, 15 kB file", _best(ordinary(100), 20), "ms", 10.0),
        ("parse a 2,000-job file", _best(ordinary(2_000), 5), "ms", 250.0),
    ]
    floor = min(_events(ordinary(2_000)) for _ in range(5))
    rows.append(("the same, as a multiple of libyaml's events alone", rows[1][1] / floor, "x", 5.0))
    times = [(min(_refusal(text) for _ in range(3)), name) for name, text, _ in HOSTILE]
    slowest, name = max(times)
    rows.append((f"refuse the slowest of {len(HOSTILE)} hostile files ({name})", slowest, "ms", 200.0))
    peak, name = max((_peak(text), name) for name, text, _ in HOSTILE)
    rows.append((f"memory for the largest of them ({name})", peak, "MB", 100.0))
    return rows


def _best(text: str, rounds: int) -> float:
    return min(_milliseconds(text) for _ in range(rounds))


def _milliseconds(text: str) -> float:
    start = time.process_time()
    parse(text, "big.yaml")
    return (time.process_time() - start) * 1_000


def _events(text: str) -> float:
    """The floor: the YAML library alone, nothing done with its events."""
    start = time.process_time()
    for _ in yaml.parse(text, Loader=yaml.CSafeLoader):
        pass
    return (time.process_time() - start) * 1_000


def _refusal(text: str | bytes) -> float:
    start = time.process_time()
    try:
        parse(text, "hostile.yaml")
    except PipelineError:
        return (time.process_time() - start) * 1_000
    raise AssertionError("a hostile file was accepted")


def _peak(text: str | bytes) -> float:
    """MB that the parser's own objects take at most, beside the text itself."""
    tracemalloc.start()
    try:
        _refusal(text)
        return tracemalloc.get_traced_memory()[1] / 1_000_000
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    for figure, value, unit, goal in figures():
        print(f"{figure:70} {value:8.1f} {unit:3} (goal {goal:g})")
