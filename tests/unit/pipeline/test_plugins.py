"""Manifests, and the settings of plugin steps against them."""

from __future__ import annotations

import pytest

from gocdnext.pipeline import parse
from gocdnext.pipeline.plugins import ManifestError, check_plugins, parse_manifest
from gocdnext.pipeline.uses import lookup_name, own_plugin

SLACK = """\
name: slack
description: "  Posts a message "
category: " notify"
image_tag: v2
inputs:
  channel: {required: true, description: where, type: text}
  text: {default: 1.10}
  quiet:
examples:
  - {name: " short ", yaml: "a: b\\n\\n", note: x}
"""
CATALOGUE = {"slack": parse_manifest(SLACK, "slack")}


def test_a_manifest() -> None:
    manifest = CATALOGUE["slack"]
    assert [(item.name, item.required, item.default) for item in manifest.inputs] == [
        ("channel", True, ""),
        ("quiet", False, ""),
        ("text", False, "1.10"),
    ]
    assert (manifest.description, manifest.category, manifest.examples[0].yaml) == ("Posts a message", "notify", "a: b")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("[", "plugin.yaml:"),
        ("description: x", "name"),
        ("name: other", "folder"),
        ("inputs: 1", "mapping"),
    ],
)
def test_broken_manifests(text: str, part: str) -> None:
    with pytest.raises(ManifestError, match=part):
        parse_manifest(text, "slack")


@pytest.mark.parametrize("uses", ["slack@v1", "org/slack", "r:5000/a/gocdnext-plugin-slack:v1@sha256:0", " slack "])
def test_lookup_name(uses: str) -> None:
    assert lookup_name(uses) == "slack"


def test_settings_are_checked_where_the_plugin_is_known() -> None:
    text = """\
stages: [s]
notifications:
  - {on: failure, uses: slack, with: {channel: "", texd: x}}
jobs:
  ok: {stage: s, uses: org/slack@v1, with: {channel: c, text: t}}
  bad: {stage: s, uses: org/slack@v1, with: {colour: red}}
  other: {stage: s, uses: org/other, with: {anything: x}}
  older: {stage: s, image: org/slack, settings: {anything: x}}
"""
    found = check_plugins(parse(text, "a.yaml"), "a.yaml", CATALOGUE, text)
    assert [str(problem) for problem in found] == [
        'a.yaml:3:5: notifications[0]: plugin slack: unknown input "texd"; known inputs: channel, quiet, text '
        "(notifications[0]); did you mean `text`?",
        'a.yaml:6:3: job "bad": plugin slack: required input "channel" is missing from `with` (jobs.bad)',
        'a.yaml:6:3: job "bad": plugin slack: unknown input "colour"; known inputs: channel, quiet, text (jobs.bad)',
    ]
    assert [problem.line for problem in check_plugins(parse(text, "a.yaml"), "a.yaml", CATALOGUE)] == [1, 1, 1]


def test_a_long_name_is_cut_in_the_message() -> None:
    text = f"stages: [s]\njobs:\n  j: {{stage: s, uses: slack, with: {{channel: c, {'x' * 500}: y}}}}\n"
    (problem,) = check_plugins(parse(text, "a.yaml"), "a.yaml", CATALOGUE, text)
    assert len(problem.message) < 200


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("gocdnext/slack:v1", "slack"),
        ("slack", "slack"),
        ("slack:v1", "slack"),
        ("ghcr.io/someone/gocdnext-plugin-slack:v1", "slack"),
        ("r:5000/gocdnext-plugin-slack@sha256:0", "slack"),
        ("gocdnext/slack@sha256:0", "slack"),
        ("acme/slack:v1", ""),
        ("ghcr.io/acme/gocdnext/slack:v1", ""),
        ("docker.io/library/python:3", ""),
        ("", ""),
    ],
)
def test_which_images_stand_for_our_own_plugins(image: str, name: str) -> None:
    assert own_plugin(image) == name
