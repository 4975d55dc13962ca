"""The catalogue: which folders are read and how, and our own manifests against the field's table and against the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gocdnext.pipeline import parse
from gocdnext.pipeline.plugins import check_plugins
from gocdnext.plugins import catalogue
from gocdnext.plugins.catalogue import CatalogueError, load, roots, shipped

ROOT = Path(__file__).resolve().parents[2]
OURS = load([shipped()])

# contract-cli-plugins 5.3: `*` required, `=x` documented default.
FIELD = {
    "check-pipeline-run": "api-url*, api-token*, project*, pipeline*, tag, revision, expected-status=success, max-age=7d, "
    "poll-attempts=1, poll-interval=30, runs-limit=100, output=.gocdnext/preflight.env",
    "discord": "webhook*, content, username, avatar, tts=false",
    "email": "host*, port=587, username, password, tls=starttls, from*, to*, cc, subject*, body*, format=plain",
    "go": "command*, working-dir=., cgo, toolchain=auto",
    "matrix": "homeserver*, token*, room-id*, body, html, msgtype=m.text",
    "maven": "command*, working-dir=., settings, nexus-url, nexus-username, nexus-password, snapshot-repo-id=snapshots, "
    "release-repo-id=releases, maven-opts, parallel, build-cache, color=true, jdk=21",
    "nexus": "action*, url*, repository*, group-id*, artifact-id*, extension=jar, classifier, version, dest=., file, "
    "upload-version, username, password",
    "node": "command, working-dir=., manager=auto, install=true, frozen=true, prod=false",
    "pr-comment": "body, body-file, marker, mode=upsert, provider=auto, api-base, dry-run=false",
    "python": "command*, working-dir=., manager=auto, requirements, extras, all-extras=false, no-install=false",
    "release-notes": "from, to=HEAD, output=RELEASE_NOTES.md, format=plain, heading",
    "rust": "command*, working-dir=., toolchain=stable, rustflags",
    "s3": "action*, bucket*, key*, region, endpoint-url, file, dest, acl, content-type",
    "semver-bump": "prefix=v, initial=0.1.0, pre-release, force-kind, prior-tag, output=.gocdnext/semver.env",
    "slack": "webhook*, channel, template",
    "ssh": "host*, user*, port=22, key, password, known_hosts, host_key, host_key_check=yes, upload, target, "
    "rsync_opts=-az --delete, script, working-dir=.",
    "tag": "name*, message, revision=HEAD, remote=origin, username, token*, force=false",
    "teams": "webhook*, title, message, theme-color, payload-file",
}
MACHINE_DECIDES = {("maven", "jdk"), ("rust", "toolchain")}
"""Defaults of the image that a machine of one's own does not have: there the input is optional."""


def put(root: Path, name: str, text: str | None) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    if text is not None:
        (folder / "plugin.yaml").write_text(text)
    return folder


def test_folders_with_manifests_by_name(tmp_path: Path) -> None:
    put(tmp_path, "b", "name: b")
    put(tmp_path, "a", "name: a\ndescription: first")
    put(tmp_path, "empty", None)
    put(tmp_path, "deep/er", "name: er")
    (tmp_path / "file").write_text("x")
    found = load([tmp_path, tmp_path / "missing"])
    assert list(found) == ["a", "b"]
    assert found["a"].description == "first"


def test_a_later_root_replaces_a_plugin_entirely(tmp_path: Path) -> None:
    put(tmp_path / "one", "a", "name: a\ndescription: first\ninputs: {x: {required: true}}")
    put(tmp_path / "two", "a", "name: a")
    found = load([tmp_path / "one", tmp_path / "two"])
    assert (found["a"].description, found["a"].inputs) == ("", ())


def test_links_are_followed_and_what_is_behind_them_is_not_read_twice(tmp_path: Path) -> None:
    """As Kubernetes shows a ConfigMap."""
    put(tmp_path / "root", "..2026_04_28/slack", "name: slack\ndescription: linked")
    (tmp_path / "root" / "..data").symlink_to("..2026_04_28")
    (tmp_path / "root" / "slack").symlink_to("..data/slack")
    (tmp_path / "root" / "gone").symlink_to("..data/nothing")
    assert load([tmp_path / "root"])["slack"].description == "linked"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "not valid YAML"),
        ("", "empty"),
        ("description: x", "lacks its `name`"),
        ("name: other", "is not that of its folder"),
        ("name: a\ninputs: []", "expected a mapping"),
        ("name: a\ninputs: {x: {required: maybe}}", "expected true or false"),
        ("name: a\ndescription: [x]", "expected text"),
        ("name: a\nx: '" + "y" * catalogue.MAX_MANIFEST + "'", "256 KiB"),
    ],
)
def test_a_broken_manifest_is_an_error_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    put(tmp_path, "a", text)
    with pytest.raises(CatalogueError, match=re.escape(words)) as refused:
        load([tmp_path])
    assert f"{tmp_path}/a/plugin.yaml" in str(refused.value)


def test_a_root_that_is_a_file_or_a_manifest_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CatalogueError, match="cannot be read: Not a directory"):
        load([tmp_path / "file"])
    (tmp_path / "root" / "a" / "plugin.yaml").mkdir(parents=True)
    with pytest.raises(CatalogueError, match="cannot be read: Is a directory"):
        load([tmp_path / "root"])


def test_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "MAX_PLUGINS", 2)
    for name in ("a", "b", "c"):
        put(tmp_path, name, f"name: {name}")
    with pytest.raises(CatalogueError, match="more than 2 plugins"):
        load([tmp_path])


def test_our_own_folder_comes_first() -> None:
    assert roots("") == (shipped(),)
    assert roots(" /a ::/b: ") == (shipped(), Path("/a"), Path("/b"))


def test_the_shipped_manifests_have_the_inputs_of_the_field() -> None:
    assert list(OURS) == sorted(FIELD)
    for name, inputs in FIELD.items():
        wanted = {}
        for entry in inputs.split(", "):
            word, _, default = entry.partition("=")
            word, required = word.removesuffix("*"), word.endswith("*")
            wanted[word] = (required, default)
        assert {item.name: (item.required, item.default) for item in OURS[name].inputs} == wanted, name


@pytest.mark.parametrize("name", FIELD)
def test_a_manifest_says_what_it_is_for(name: str) -> None:
    manifest = OURS[name]
    assert manifest.category in {"build", "deploy", "notifications", "registry", "release"}
    assert len(manifest.description.splitlines()[0]) > 20
    assert all(item.description for item in manifest.inputs)
    assert manifest.examples


@pytest.mark.parametrize("name", FIELD)
def test_examples_are_good_pipelines(name: str) -> None:
    for example in OURS[name].examples:
        body = example.yaml
        if not body.startswith("notifications:"):
            body = "jobs:\n" + textwrap.indent(body, "  ")
        stages = sorted(set(re.findall(r"stage: (\w+)", body))) or ["s"]
        body += "" if "jobs:" in body else "\njobs: {}"
        needed = re.findall(r"needs: \[(\w+)\]", body)
        body += "".join(f"\n  {job}: {{stage: {stages[0]}, script: [x]}}" for job in needed)
        text = f"stages: {stages}\n{body}\n"
        pipeline = parse(text, "example.yaml")
        used = [job.plugin.image for job in pipeline.jobs if job.plugin] + [
            n.uses for n in pipeline.notifications or ()
        ]
        assert any(name in image for image in used)
        assert not check_plugins(pipeline, "example.yaml", OURS, text)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in shipped().glob("*/plugin.py")))
def test_an_implementation_reads_exactly_the_inputs_of_its_manifest(name: str) -> None:
    """And has the defaults that the manifest tells, where the code gives them as constants."""
    readers = {
        "text", "block", "needed", "needed_block", "secret", "needed_secret", "flag", "number", "choice", "address",
        "read", "enter", "webhook", "commit_of", "part", "addresses", "name",
    }  # fmt: skip
    read: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse((shipped() / name / "plugin.py").read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called not in readers:
            continue
        first = {"enter": "working-dir", "webhook": "webhook"}.get(called) if not node.args else None
        values = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        word = first or (str(values[0]) if values else "")
        defaults = read.setdefault(word, set())
        position = 2 if called == "choice" else 1
        if len(node.args) > position and isinstance(default := node.args[position], ast.Constant):
            shown = str(default.value)
            defaults.add(shown.lower() if isinstance(default.value, bool) else shown)
    read.pop("", None)
    manifest = {item.name: item.default for item in OURS[name].inputs}
    assert set(read) == set(manifest)
    for word, defaults in read.items():
        told = defaults - {""} if (name, word) not in {("semver-bump", "force-kind")} else set()
        if told and (name, word) not in MACHINE_DECIDES | {("teams", "theme-color"), ("build", "cache")}:
            assert told == {manifest[word]} or not manifest[word], (word, told)


@pytest.mark.parametrize("path", sorted(shipped().glob("*/plugin.sh")), ids=lambda path: path.parent.name)
def test_a_shell_implementation_reads_exactly_the_inputs_of_its_manifest(path: Path) -> None:
    assert subprocess.run(["sh", "-n", path], check=False).returncode == 0
    manifest = {f"PLUGIN_{item.name.replace('-', '_').upper()}" for item in OURS[path.parent.name].inputs}
    assert set(re.findall(r"PLUGIN_[A-Z_]+", path.read_text())) == manifest


def test_plugins_import_nothing_but_kit_and_what_the_agent_has() -> None:
    """They run beside an agent, or alone in an image: nothing of the server's or the agent's own."""
    for path in shipped().rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.split(".")[0]
                assert top in sys.stdlib_module_names or top in {"kit", "kit_http", "httpx", "tenacity"}, (
                    f"{path}: {name}"
                )
