"""Properties of the substitution passes, beside the cases of `tests/vectors/substitution.json`."""

from __future__ import annotations

import re
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from gocdnext.pipeline.substitution import (
    NeededJob,
    OutputValue,
    Piece,
    SubstitutionError,
    bodies,
    joined,
    needs,
    needs_pass,
    outside,
    plugin_env,
    soft,
    soft_pass,
    strict,
    strict_pass,
    written,
)


def failure(action: Callable[[], object]) -> SubstitutionError | None:
    """The error of an action, if it has one."""
    try:
        action()
    except SubstitutionError as error:
        return error
    return None


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=5),
        st.sampled_from(
            ["${{", "}}", "}", "${", "$", "${{ A }}", "${A}", "${{ needs.a.outputs.b }}", "${{ needs.a", " "]
        ),
    ),
    max_size=8,
).map("".join)
SOURCES = st.lists(st.dictionaries(NAMES, TEXTS, max_size=3), max_size=3)
A_JOB = {"a": NeededJob({"": {"b": OutputValue("${{ A }} ${A}")}})}


@settings(derandomize=True, database=None, deadline=None)
@given(TEXTS, SOURCES)
def test_strict_answers_or_names_what_is_missing(text: str, sources: list[dict[str, str]]) -> None:
    error = failure(lambda: strict(text, sources))
    if error is not None:
        assert error.kind in ("unresolved", "unsupported")
        assert error.names
        assert set(error.names) <= set(bodies(text))


@settings(derandomize=True, database=None, deadline=None)
@given(st.text(), SOURCES)
def test_text_without_references_stays(text: str, sources: list[dict[str, str]]) -> None:
    plain = text.replace("$", "")
    assert strict(plain, sources) == soft(plain, sources) == needs(plain, {}) == plain


@settings(derandomize=True, database=None, deadline=None)
@given(NAMES, TEXTS)
def test_a_value_is_put_in_whole_and_not_looked_at(name: str, value: str) -> None:
    assert strict(f"<${{{{ {name} }}}}>", [{name: value}]) == f"<{value}>"
    assert soft(f"<${{{name}}}>", [{name: value}]) == f"<{value}>"


@settings(derandomize=True, database=None, deadline=None)
@given(TEXTS)
def test_no_pass_looks_into_what_came_from_outside(text: str) -> None:
    pieces = outside(text)
    sources = [{"A": written("x")}]
    assert joined(soft_pass(strict_pass(needs_pass(pieces, A_JOB), sources), sources)) == text


def test_values_from_outside_stay_closed_in_later_passes() -> None:
    sources = [{"SECRET": outside("${A} ${{ A }}"), "A": written("a")}]
    pieces = strict_pass(needs_pass(written("${{ needs.a.outputs.b }}/${{ SECRET }}/${A}"), A_JOB), sources)
    assert joined(soft_pass(pieces, sources)) == "${{ A }} ${A}/${A} ${{ A }}/a"


def test_a_written_value_is_seen_by_the_next_pass_but_not_by_the_same() -> None:
    sources = [{"T": written("1.${N}"), "N": written("7")}]
    pieces = strict_pass(written("${{ T }}"), sources)
    assert joined(pieces) == "1.${N}"
    assert joined(soft_pass(pieces, sources)) == "1.7"


@settings(derandomize=True, database=None, deadline=None)
@given(st.lists(st.builds(Piece, TEXTS, st.booleans()), max_size=5))
def test_soft_keeps_sealed_pieces(pieces: list[Piece]) -> None:
    result = soft_pass(tuple(pieces), [])
    assert joined(result) == "".join(piece.text for piece in pieces)


@settings(derandomize=True, database=None, deadline=None)
@given(st.text(), st.sets(st.sampled_from(["a", "b"])))
def test_needs_never_shows_values(text: str, aliases: set[str]) -> None:
    jobs = {"a": NeededJob({"": {alias: OutputValue("hidden-value") for alias in aliases}})}
    whole = text.replace("$", "") + "${{ needs.a.outputs.a }}"
    error = failure(lambda: needs(whole, jobs))
    assert (error is None) is ("a" in aliases)
    if error is not None:
        assert str(error).startswith("needs outputs: ")
        assert "hidden-value" not in str(error)


@settings(derandomize=True, database=None, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=20))
def test_plugin_env_has_no_blanks_dashes_or_dots(name: str) -> None:
    assert not re.search(r"[-. ]", plugin_env(name))
    assert plugin_env(name).startswith("PLUGIN_")


def test_long_and_many_names_are_shortened() -> None:
    text = "".join(f"${{{{ GHOST{number}{'x' * 200} }}}}" for number in range(50))
    error = failure(lambda: strict(text, []))
    assert len(str(error)) < 1_000
    assert "and 45 more" in str(error)
