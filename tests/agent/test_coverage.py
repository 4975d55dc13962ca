"""Coverage reports: four formats, sums per package, and the threshold."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gocdnext.agent import coverage, coverage_report
from gocdnext.agent.coverage import Share
from gocdnext.agent.coverage_report import CoverageGateError
from gocdnext.agent.failures import DeliveryError
from gocdnext.proto.agent_pb2 import CoverageReportSpec, CoverageSummary


def read(kind: str, text: str | bytes) -> dict[str, tuple[int, int]]:
    packages = coverage.read(kind, io.BytesIO(text.encode() if isinstance(text, str) else text))
    return {name: (share.covered, share.total) for name, share in packages.items()}


# -- go-cover


def test_go_counts_statements_and_merges_blocks() -> None:
    text = """mode: set
example.org/app/a.go:1.2,3.4 3 1
example.org/app/a.go:5.1,6.2 2 0
example.org/app/a.go:5.1,6.2 2 7
example.org/app/a.go:1.2,3.4 3 0
example.org/app/sub/b.go:1.1,2.2 4 0
mode: set
main.go:1.1,2.2 1 123456789012345678901234567890
"""
    assert read("go-cover", text) == {"example.org/app": (5, 5), "example.org/app/sub": (0, 4), ".": (1, 1)}
    assert read("go-cover", "mode: atomic\n") == {}
    assert read("go-cover", "\ufeffmode: count\r\na/b.go:1.1,2.2 1 1\r\n") == {"a": (1, 1)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no `mode:` line"),
        ("a.go:1.1,2.2 1 1\n", "first line does not begin with `mode:`"),
        ("mode: set\nnonsense\n", "line 2 is not of the form"),
        ("mode: set\n\na.go:1.1,2.2 -1 1\n", "line 3 is not of the form"),
        ("mode: set\na.go:1.1,2.2 1\n", "line 2 is not of the form"),
        ("mode: set\na.go:1.1,2.2 99999999999999999999 1\n", "line 2: .* is not a count"),
        ("mode: set\na.go:1.1,2.2 9223372036854775807 1\na.go:3.1,2.2 1 1\n", "which cannot be"),
    ],
)
def test_what_is_no_go_profile(text: str, message: str) -> None:
    with pytest.raises(DeliveryError, match=message):
        read("go-cover", text)


# -- lcov


def test_lcov_takes_the_sums_else_the_lines() -> None:
    text = """TN:test
SF:src/a.ts
FN:1,main
DA:1,1
DA:2,0
LF:10
LH:7
BRF:2
end_of_record
SF:src/b.ts
DA:1,5,checksum
DA:2,0
DA:3,-1
end_of_record
SF:top.ts
LF:4
LH:4
"""
    assert read("lcov", text) == {"src": (8, 13), ".": (4, 4)}
    assert read("lcov", "SF:/abs/a.c\nLF:1\nLH:0\nend_of_record") == {"/abs": (0, 1)}
    assert read("lcov", "SF:C:\\src\\a.c\nDA:1,1\nend_of_record") == {"C:/src": (1, 1)}
    assert read("lcov", "SF:src/a.c\nLF:3\nDA:1,1\nend_of_record") == {"src": (1, 1)}, "one sum alone is none"


def test_lcov_records_of_one_file_are_merged() -> None:
    twice = "SF:a/x\nDA:1,1\nDA:2,0\nLF:2\nLH:1\nend_of_record\nSF:a/x\nDA:2,3\nDA:3,0\nLF:2\nLH:1\nend_of_record\n"
    assert read("lcov", twice) == {"a": (2, 3)}
    sums = "SF:a/x\nLF:10\nLH:4\nend_of_record\nSF:a/x\nLF:10\nLH:6\nend_of_record\n"
    assert read("lcov", sums) == {"a": (6, 10)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no record of a source file"),
        ("DA:1,1\n", "no record of a source file"),
        ("SF:a\nDA:1\n", "line 2 is not of the form"),
        ("SF:a\nDA:x,1\n", "line 2: 'x' is not a count"),
        ("SF:a\nDA:1,many\n", "line 2: 'many' is not a count"),
        ("SF:a\nLF:-1\nLH:0\n", "line 2: '-1' is not a count"),
        ("SF:a\nLF:1\nLH:2\n", "2 covered of 1 lines, which cannot be"),
    ],
)
def test_what_is_no_lcov(text: str, message: str) -> None:
    with pytest.raises(DeliveryError, match=message):
        read("lcov", text)


# -- cobertura


def cobertura(*packages: tuple[str, str]) -> str:
    inner = "".join(f'<package name="{name}"><classes>{classes}</classes></package>' for name, classes in packages)
    return (
        '<?xml version="1.0"?><!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/xml/coverage-04.dtd">'
        f'<coverage line-rate="0.9"><sources><source>.</source></sources><packages>{inner}</packages></coverage>'
    )


def test_cobertura_counts_lines_of_classes_once() -> None:
    lines = '<line number="1" hits="1"/><line number="2" hits="0"/><line number="3"/>'
    methods = f'<methods><method name="m"><lines>{lines}</lines></method></methods>'
    text = cobertura(
        ("app", f'<class name="A" filename="app/a.py">{methods}<lines>{lines}</lines></class>'),
        ("", '<class name="B"><lines><line number="1" hits="12345678901234567890"/></lines></class>'),
        ("none", '<class name="C" filename="c"><lines/></class>'),
    )
    assert read("cobertura", text) == {"app": (1, 2), ".": (1, 1)}


def test_cobertura_lines_shared_by_classes() -> None:
    first = (
        '<class name="A" filename="a.kt"><lines><line number="1" hits="0"/><line number="2" hits="0"/></lines></class>'
    )
    second = '<class name="A$1" filename="a.kt"><lines><line number="2" hits="3"/></lines></class>'
    assert read("cobertura", cobertura(("p", first + second))) == {"p": (1, 2)}
    assert read("cobertura", cobertura(("p", first), ("q", second))) == {"p": (0, 2), "q": (1, 1)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<report/>", "root is <report>, not <coverage>"),
        ("<coverage><packages>", "no XML"),
        (cobertura(("p", '<class><lines><line hits="x"/></lines></class>')), "'x' is not a number of hits"),
        ("<!DOCTYPE c [<!ENTITY a 'b'>]><coverage/>", "entities"),
        (b"<coverage>" + b" " * coverage.MAX_FILE, "larger than 32 MiB"),
    ],
    ids=itertools.count(),
)
def test_what_is_no_cobertura(text: str | bytes, message: str) -> None:
    with pytest.raises(DeliveryError, match=message):
        read("cobertura", text)


# -- jacoco


def test_jacoco_takes_the_counters_of_packages() -> None:
    text = """<?xml version="1.0"?><!DOCTYPE report PUBLIC "-//JACOCO//DTD Report 1.1//EN" "report.dtd">
    <report name="app"><sessioninfo id="x"/>
      <group name="core"><package name="org/app">
        <class name="A"><method name="m"><counter type="LINE" missed="90" covered="1"/></method>
          <counter type="LINE" missed="99" covered="1"/></class>
        <sourcefile name="A.java"><line nr="1"/><counter type="LINE" missed="99" covered="1"/></sourcefile>
        <counter type="INSTRUCTION" missed="5" covered="50"/>
        <counter type="LINE" missed="3" covered="7"/>
      </package></group>
      <group name="web"><package name="org/app"><counter type="LINE" missed="1" covered="2"/></package></group>
      <package name=""><counter type="LINE" missed="0" covered="4"/></package>
      <package name="no/lines"><counter type="METHOD" missed="0" covered="4"/></package>
      <counter type="LINE" missed="1000" covered="1000"/>
    </report>"""
    assert read("jacoco", text) == {"org/app": (9, 13), ".": (4, 4)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<coverage/>", "root is <coverage>, not <report>"),
        ('<report><package><counter type="LINE" missed="-1" covered="1"/></package></report>', "'-1' is not a count"),
        ('<report><package><counter type="LINE" covered="1"/></package></report>', "'' is not a count"),
        ("<report", "no XML"),
    ],
)
def test_what_is_no_jacoco(text: str, message: str) -> None:
    with pytest.raises(DeliveryError, match=message):
        read("jacoco", text)


def test_an_unknown_format() -> None:
    with pytest.raises(DeliveryError, match="'clover' is not one of go-cover, lcov, cobertura, jacoco"):
        read("clover", "")


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(sorted(coverage.FORMATS)),
    st.binary(max_size=200),
    st.sampled_from([b"", b"mode: set\n", b"SF:x\n"]),
)
def test_any_bytes_give_numbers_or_our_error(kind: str, data: bytes, head: bytes) -> None:
    with contextlib.suppress(DeliveryError):
        for covered, total in read(kind, head + data).values():
            assert 0 <= covered <= total


BLOCKS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 5), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=30
)


@settings(deadline=None)
@given(BLOCKS)
def test_go_merges_like_a_dictionary(blocks: list[tuple[str, int, int, int]]) -> None:
    text = "mode: count\n" + "".join(f"{p}/f.go:{at}.1,{at}.9 {at} {count}\n" for p, at, _, count in blocks)
    expected: dict[str, set[int]] = {}
    hit: dict[str, set[int]] = {}
    for package, at, _, count in blocks:
        expected.setdefault(package, set()).add(at)
        if count:
            hit.setdefault(package, set()).add(at)
    assert read("go-cover", text) == {p: (sum(hit.get(p, ())), sum(ats)) for p, ats in expected.items()}


# -- sums and the threshold


def test_the_worst_packages_first_and_no_more_than_200() -> None:
    packages = {f"p{number:03}": Share(number, 300) for number in range(300)} | {"empty": Share(0, 0)}
    summary = coverage_report.summarise("lcov", packages)
    assert (summary.lines_covered, summary.lines_total) == (sum(range(300)), 90_000)
    assert [package.name for package in summary.packages] == [f"p{number:03}" for number in range(200)]
    with pytest.raises(DeliveryError, match="does not count a single line"):
        coverage_report.summarise("lcov", {"empty": Share(0, 0)})


def gate(covered: int, total: int, fail_under: float) -> str:
    spec = CoverageReportSpec(path="c", format="lcov", fail_under=fail_under)
    try:
        coverage_report.check(spec, CoverageSummary(lines_covered=covered, lines_total=total))
    except CoverageGateError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("covered", "total", "fail_under", "passes"),
    [
        (4, 5, 80, True), (799, 1000, 80, False), (333, 1000, 33.3, True), (1, 3, 33.34, False), (0, 10, 0, True),
        (0, 10, 0.01, False), (10, 10, 100, True), (10**15 - 1, 10**15, 100, False), (29, 100, 29, True),
        (57, 100, 57.00000001, False), (7, 1000, 0.7, True),
    ],
)  # fmt: skip
def test_the_threshold(covered: int, total: int, fail_under: float, passes: bool) -> None:
    assert (gate(covered, total, fail_under) == "") == passes


def test_the_reason_never_looks_equal() -> None:
    assert gate(79_999, 100_000, 80) == "coverage: 79.99 % is below the required 80 % (79999 of 100000 lines)"
    assert gate(1, 2, 66.6) == "coverage: 50 % is below the required 66.6 % (1 of 2 lines)"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone.info", "there is no such file"),
        ("folder", "is not a file"),
        ("fifo", "is not a file"),
        ("link", "leads out"),
        ("/etc/passwd", "absolute"),
        ("../x", "leads out"),
        ("a*", "there is no such file"),
        ("large", "larger than 32 MiB; that is the limit"),
    ],
)
def test_what_is_no_file(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "abc").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**30)
    with pytest.raises(DeliveryError, match=message):
        coverage_report.read(path, "lcov", str(tmp_path))


def test_a_large_file_is_bounded_while_it_is_read() -> None:
    with pytest.raises(DeliveryError, match="larger than 32 MiB"):
        read("lcov", b"SF:" + b"x" * (coverage.MAX_FILE + 10))
