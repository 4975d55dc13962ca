"""Fingerprints and the implicit material."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gocdnext.pipeline import fingerprints, parse
from gocdnext.pipeline.implicit import with_implicit_material
from gocdnext.pipeline.model import GitMaterial, Pipeline

SOURCE = "https://git.test/Org/App.git"


def git(pipeline: Pipeline) -> list[tuple[str, tuple[str, ...], tuple[str, ...], bool]]:
    return [(m.branch, m.events, m.paths, m.implicit) for m in pipeline.materials if isinstance(m, GitMaterial)]


def test_a_fingerprint_is_over_normal_url_and_branch() -> None:
    assert fingerprints.git_fingerprint(SOURCE, "dev") == hashlib.sha256(b"git.test/Org/App\0dev").hexdigest()


@settings(derandomize=True, database=None, deadline=None)
@given(st.text())
def test_the_normal_url_is_found_for_any_text(url: str) -> None:
    assert fingerprints.normal_git_url(url) == fingerprints.normal_git_url(f"  {url}  ")
    assert len(fingerprints.git_fingerprint(url, url)) == 64


def test_a_pipeline_follows_the_default_branch_of_the_source() -> None:
    pipeline = with_implicit_material(parse("stages: []", "p.yaml"), SOURCE, "trunk")
    assert git(pipeline) == [("trunk", ("push",), (), True)]
    assert pipeline.materials[0].fingerprint == fingerprints.git_fingerprint(SOURCE, "trunk")
    assert git(with_implicit_material(parse("stages: []", "p.yaml"), SOURCE, "")) == [("main", ("push",), (), True)]


def test_when_says_which_branches_events_and_paths() -> None:
    text = "when: {branch: [a, b, a], event: [tag, push], paths: [x/**]}\nmaterials: [{manual: true}]\n"
    pipeline = with_implicit_material(parse(text, "p.yaml"), SOURCE, "main")
    assert git(pipeline) == [("a", ("tag", "push"), ("x/**",), True), ("b", ("tag", "push"), ("x/**",), True)]
    assert len(pipeline.materials) == 3


def test_it_is_made_anew_on_every_apply() -> None:
    once = with_implicit_material(parse("stages: []", "p.yaml"), SOURCE, "main")
    assert with_implicit_material(once, SOURCE, "main") == once
    assert git(with_implicit_material(once, "https://git.test/other", "dev")) == [("dev", ("push",), (), True)]


@pytest.mark.parametrize("url", ["git@GIT.test:Org/App", "https://me:pw@git.test/Org/App/"])
def test_an_explicit_material_of_the_same_repository_counts_alone(url: str) -> None:
    pipeline = parse(f"materials: [{{git: {{url: '{url}', branch: x}}}}]\nwhen: {{branch: [a]}}\n", "p.yaml")
    assert with_implicit_material(pipeline, SOURCE, "main") == pipeline


def test_without_a_source_there_is_none() -> None:
    pipeline = parse("stages: []", "p.yaml")
    assert with_implicit_material(pipeline, "", "main") == pipeline
