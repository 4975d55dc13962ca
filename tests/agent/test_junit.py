"""Test reports: what counts as what, what is cut, and what is no report."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gocdnext.agent import junit, test_reports
from gocdnext.agent.safe_xml import XmlError
from gocdnext.proto import agent_pb2 as pb


def results(text: str | bytes) -> list[pb.TestResult]:
    return list(junit.parse(io.BytesIO(text.encode() if isinstance(text, str) else text)))


def one(inner: str, attributes: str = 'name="n"') -> pb.TestResult:
    (result,) = results(f"<testsuite><testcase {attributes}>{inner}</testcase></testsuite>")
    return result


def no_mask(text: str) -> str:
    return text


def test_a_report() -> None:
    found = results(
        """<?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="all" tests="3">
          <properties><property name="x" value="y"/></properties>
          <testsuite name="money" tests="2">
            <properties/>
            <testcase classname="tests.test_round" name="test_half_even" time="0.0304">
              <failure type="AssertionError" message="1.2 != 1.3"><![CDATA[Traceback <here>]]></failure>
              <system-out>printed</system-out>
              <system-err>warned</system-err>
            </testcase>
            <testcase classname="tests.test_round" name="test_up" time="1"/>
            <system-out>of the suite</system-out>
          </testsuite>
          <testsuite name="other"><testcase name="alone"/></testsuite>
        </testsuites>"""
    )
    assert found == [
        pb.TestResult(
            suite="money",
            classname="tests.test_round",
            name="test_half_even",
            status="failed",
            duration_millis=30,
            failure_type="AssertionError",
            failure_message="1.2 != 1.3",
            failure_detail="Traceback <here>",
            system_out="printed",
            system_err="warned",
        ),
        pb.TestResult(
            suite="money", classname="tests.test_round", name="test_up", status="passed", duration_millis=1000
        ),
        pb.TestResult(suite="other", name="alone", status="passed"),
    ]


@pytest.mark.parametrize(
    ("inner", "status"),
    [
        ("", "passed"),
        ("<skipped/>", "skipped"),
        ('<skipped message="later"/><error/>', "errored"),
        ("<error/><failure/>", "failed"),
        ("<skipped/><error/><failure/><system-out/>", "failed"),
        ("<rerunFailure/>", "passed"),
        ("<properties><failure/></properties>", "passed"),
    ],
)
def test_failure_before_error_before_skipped(inner: str, status: str) -> None:
    assert one(inner).status == status


def test_messages_of_errors_and_skips() -> None:
    assert one('<error type="T" message="m">detail</error>').failure_detail == "detail"
    assert one('<skipped message="not today"/>').failure_message == "not today"
    assert one("<failure>before<b>bold</b>after</failure>").failure_detail == "beforeboldafter"


@pytest.mark.parametrize(
    ("time", "millis"),
    [
        ("0.001", 1), ("1.5", 1500), ("2e-3", 2), ("", 0), ("fast", 0), ("-1", 0), ("1,234.5", 0), ("nan", 0),
        ("inf", 0), ("1e400", 0), ("1e300", 2**53), ("0.0004", 0), (" 1 ", 1000),
    ],
)  # fmt: skip
def test_times(time: str, millis: int) -> None:
    assert one("", f'time="{time}"').duration_millis == millis


def test_suites_inside_of_suites_are_not_read() -> None:
    inner = '<testsuite name="inner"><testcase name="no"/></testsuite>'
    assert [r.name for r in results(f'<testsuite>{inner}<testcase name="yes"/></testsuite>')] == ["yes"]
    text = (
        f'<testsuites><testsuite name="s">{inner}<testcase name="yes"/></testsuite><testcase name="no"/></testsuites>'
    )
    assert [(r.suite, r.name) for r in results(text)] == [("s", "yes")]


def test_namespaces_and_encodings() -> None:
    assert results('<testsuites xmlns="urn:x"><testsuite><testcase name="n"/></testsuite></testsuites>')[0].name == "n"
    text = '<?xml version="1.0" encoding="{}"?><testsuite name="ü"><testcase/></testsuite>'
    for encoding in ("utf-8", "utf-16", "iso-8859-1", "windows-1252"):
        assert results(text.format(encoding).encode(encoding))[0].suite == "ü"
    assert results(b"\xef\xbb\xbf<testsuite/>") == []


def test_texts_are_cut_at_characters() -> None:
    long = "ä" * 40_000
    assert one(f"<failure>{long}</failure>").failure_detail == "ä" * (junit.MAX_TEXT // 2)
    assert junit.cut("x" * junit.MAX_TEXT) == "x" * junit.MAX_TEXT
    assert junit.cut("x" + long) == "x" + "ä" * ((junit.MAX_TEXT - 1) // 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html><body/></html>", "root is <html>"),
        (b"", "no XML"),
        (b"not xml at all", "no XML"),
        (b"<testsuite><testcase>", "no XML"),
        (b"\x00\x01\x02", "no XML"),
        (b'<?xml version="1.0" encoding="klingon"?><testsuite/>', "no XML"),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><testsuite name='&a;'/>", "entities"),
        (b"<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><testsuite>&a;</testsuite>", "entities"),
        (b"<!DOCTYPE x [<!ENTITY % a SYSTEM 'http://127.0.0.1/'> %a;]><testsuite/>", "entities"),
        (b"<testsuite>" + b"<a>" * 200, "nested more than 100 deep"),
        (b"<testsuite>" + b" " * junit.MAX_FILE, "larger than 8 MiB"),
    ],
    ids=itertools.count(),
)
def test_what_is_no_report(data: bytes, message: str) -> None:
    with pytest.raises(XmlError, match=message):
        results(data)


def test_a_document_type_alone_is_fine() -> None:
    assert results('<!DOCTYPE testsuite SYSTEM "http://127.0.0.1:9/x.dtd"><testsuite><testcase/></testsuite>')


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cn"]), max_size=30),
            st.sampled_from(["", "<failure/>", "<error/>", "<skipped/>", "<failure/><skipped/>"]),
            st.floats(0, 1e6),
        ),
        max_size=20,
    )
)
def test_any_names_and_times(cases: list[tuple[str, str, float]]) -> None:
    text = "".join(
        f"<testcase name={quoteattr(name)} time='{time!r}'>{inner}</testcase>" for name, inner, time in cases
    )
    found = results(f"<testsuites><testsuite>{text}</testsuite></testsuites>")
    assert [(result.name, result.duration_millis) for result in found] == [
        (name, round(time * 1000)) for name, _, time in cases
    ]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300).map(lambda data: b"<testsuite>" + data))
def test_any_bytes_give_results_or_our_error(data: bytes) -> None:
    with contextlib.suppress(XmlError):
        results(data)


# -- all reports of a job


def suite(*names: str, inner: str = "") -> str:
    return f"<testsuite>{''.join(f'<testcase name={quoteattr(name)}>{inner}</testcase>' for name in names)}</testsuite>"


def test_patterns_and_their_order(tmp_path: Path) -> None:
    for name in ("b/TEST-2.xml", "b/TEST-1.xml", "a/TEST-3.xml", "other.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(suite(name))
    collected = test_reports.read_all(
        ["b/TEST-*.xml", "**/TEST-*.xml", "gone/*.xml", "../*.xml"], str(tmp_path), no_mask
    )
    assert [result.name for result in collected.results] == ["b/TEST-1.xml", "b/TEST-2.xml", "a/TEST-3.xml"]
    assert collected.files == 3
    assert collected.warnings == ["no file matches 'gone/*.xml'", "'../*.xml' leads out of the directory of the job"]


def test_bad_files_are_warnings_and_add_nothing(tmp_path: Path) -> None:
    (tmp_path / "1.xml").write_text(suite("good"))
    (tmp_path / "2.xml").write_text("<testsuite><testcase name='half'/><testcase")
    (tmp_path / "3.xml").write_text("<html/>")
    (tmp_path / "4.xml").symlink_to("/etc/passwd")
    (tmp_path / "5.xml").mkdir()
    os.mkfifo(tmp_path / "6.xml")
    collected = test_reports.read_all(["*.xml"], str(tmp_path), no_mask)
    assert [result.name for result in collected.results] == ["good"]
    assert dict(collected.counts) == {"passed": 1}
    assert [warning.split(" is not read: ")[0] for warning in collected.warnings] == [
        "2.xml",
        "3.xml",
        "4.xml",
        "6.xml",
    ]


def test_a_report_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "large.xml", "wb") as file:
        file.write(b"<testsuite>")
        file.truncate(2**30)
    collected = test_reports.read_all(["*.xml"], str(tmp_path), no_mask)
    assert collected.warnings == ["large.xml is not read: it is larger than 8 MiB; that is the limit"]


def test_the_number_of_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_reports, "MAX_FILES", 3)
    for number in range(5):
        (tmp_path / f"{number}.xml").write_text(suite(str(number)))
    collected = test_reports.read_all(["*.xml"], str(tmp_path), no_mask)
    assert [result.name for result in collected.results] == ["0", "1", "2"]
    assert collected.warnings == ["5 files match; the first 3 are read, that is the limit"]


def test_a_batch_fits_into_a_message(tmp_path: Path) -> None:
    for number in range(3):
        names = [f"{number}-{case}" for case in range(25)]
        (tmp_path / f"{number}.xml").write_text(suite(*names, inner=f"<system-out>{'x' * 60_000}</system-out>"))
    collected = test_reports.read_all(["*.xml"], str(tmp_path), no_mask)
    message = pb.AgentMessage(
        test_results=pb.TestResultBatch(run_id="r" * 36, job_id="j" * 36, results=collected.results)
    )
    assert 3_000_000 < message.ByteSize() <= test_reports.MAX_BATCH + 200 < 4 * 1024 * 1024
    assert len(collected.results) + collected.left_out == 75 == sum(collected.counts.values())


def test_secrets_are_masked_in_every_text(tmp_path: Path) -> None:
    secret = "hunter2hunter2"
    inner = "".join(f"<{kind}>{escape(secret)}</{kind}>" for kind in ("failure", "system-out", "system-err"))
    inner = inner.replace("<failure>", f'<failure message="{secret}" type="{secret}">')
    text = f'<testsuite name="{secret}"><testcase name="{secret}" classname="{secret}">{inner}</testcase></testsuite>'
    (tmp_path / "a.xml").write_text(text)
    collected = test_reports.read_all(["a.xml"], str(tmp_path), lambda text: text.replace(secret, "***"))
    assert str(collected.results).count("***") == 8
    assert secret not in str(collected.results)
