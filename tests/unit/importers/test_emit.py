"""Whatever the texts are, the file reads back as they were."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gocdnext.importers.draft import Draft, Job, Service
from gocdnext.importers.emit import file_name, finish, render
from gocdnext.importers.notes import ImportRefusedError, Notes
from gocdnext.pipeline import parse

# What YAML can hold at all; readers of files refuse the rest.
TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t\x85", exclude_characters="\ufffe\uffff"),
    max_size=30,
)
LINES = st.lists(TEXT, min_size=1, max_size=4).map("\n".join)


def draft(script: list[str], variables: dict[str, str]) -> Draft:
    made = Draft(name="x", source="x.yml", stages=["s"], variables=variables)
    made.jobs = [Job(name="a", stage="s", line=1, script=script, remarks=["why\nnot"])]
    made.services = {"db": Service("db", "postgres", env=variables)}
    return made


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.lists(LINES, min_size=1, max_size=3), st.dictionaries(TEXT.filter(lambda key: key != "<<"), LINES, max_size=4)
)
def test_every_text_comes_back(script: list[str], variables: dict[str, str]) -> None:
    pipeline = parse(render(draft(script, variables)), "x.yaml")
    job = pipeline.job("a")
    assert job is not None
    assert job.script == "\n".join(["set -e", *script])
    assert pipeline.variables == variables
    assert pipeline.services[0].env == variables


@pytest.mark.parametrize(
    "text",
    ["true", "no", "1.10", "~", "null", "", "- a", "a: b", "#c", "a #c", "*x", "&x", "!x", "%x", "@x", "`x`", "{a}", "[a",
     "'", '"', "a\n", "a\n\n", "\na", "  a\nb", "a \nb", "\t", "a\tb\n\tc", "2020-01-01", "0x1F", "=", "<<", "a\r\nb",
     "\ufeffx", "x\u2028y\n", "\U0001f600", "|", ">-", "? a", "---", "..."],
)  # fmt: skip
def test_awkward_texts_come_back(text: str) -> None:
    pipeline = parse(render(draft([text, "end"], {"A": text})), "x.yaml")
    assert pipeline.variables == {"A": text}
    assert pipeline.jobs[0].script == f"set -e\n{text}\nend"


def test_comments_stay_comments() -> None:
    made = draft(["x"], {})
    made.source = "x.yml\njobs: {}"
    assert parse(render(made), "x.yaml").job("a") is not None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CI", "ci"),
        ("../../etc/passwd", "etc-passwd"),
        ("a b:c", "a-b-c"),
        ("", "ci"),
        ("...", "ci"),
        ("x" * 99, "x" * 60),
    ],
)
def test_file_names(text: str, name: str) -> None:
    assert file_name(text) == name


def test_too_much_is_refused() -> None:
    with pytest.raises(ImportRefusedError, match="larger"):
        finish(draft(["x" * 1024] * 1100, {}), Notes())
    many = draft(["x"], {})
    many.jobs *= 1001
    with pytest.raises(ImportRefusedError, match="jobs"):
        finish(many, Notes())
