"""Keys of caches: the grammar, and hashes that other agents make as well (protocol-agent 3.10)."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gocdnext.agent.cache_keys import CacheKeyError, expand

# By hand from the text: `printf 'go.sum\nh1:abc\n\n' | sha256sum | cut -c1-12`, and so on.
VECTORS: list[tuple[dict[str, bytes], str, str]] = [
    ({"go.sum": b"h1:abc\n"}, "go.sum", "f071cb28527d"),
    ({"go.sum": b""}, "go.sum", "7de16d8d7c7f"),
    ({"a/p.json": b"{}", "b/p.json": b"[]", "b/x": b"no"}, "**/p.json", "bcb6a93cff5a"),
    ({"b": b"2", "a": b"1", "B": b"0", "no/c": b"no"}, "?", "afef93611d4c"),
]


def by_hand(files: dict[str, bytes]) -> str:
    return hashlib.sha256(b"".join(name.encode() + b"\n" + files[name] + b"\n" for name in sorted(files))).hexdigest()[
        :12
    ]


@pytest.mark.parametrize(("files", "pattern", "digits"), VECTORS)
def test_vectors(tmp_path: Path, files: dict[str, bytes], pattern: str, digits: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert expand(f'{{{{ hash "{pattern}" }}}}', str(tmp_path)) == digits


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "go.sum").write_bytes(b"h1:abc\n")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "package-lock.json").write_bytes(b"{}")
    return tmp_path


def test_a_key_without_parts_is_opaque(root: Path) -> None:
    for key in ("deps", "any thing: ${CI_BRANCH} }} é/..", "x" * 1024):
        assert expand(key, str(root)) == key


@pytest.mark.parametrize("key", ['go-{{ hash "go.sum" }}', 'go-{{hash  "go.sum"}}', 'go-{{ hash\t"./go.sum"  }}'])
def test_parts_are_replaced(root: Path, key: str) -> None:
    assert expand(key, str(root)) == f"go-{by_hand({'go.sum': b'h1:abc' + bytes([10])})}"


def test_several_parts(root: Path) -> None:
    token = '{{ hash "go.sum" }}'
    digest = by_hand({"go.sum": b"h1:abc\n"})
    assert expand(f"v1_{token}.{token}-x", str(root)) == f"v1_{digest}.{digest}-x"
    assert expand(token * 5, str(root)) == digest * 5


def test_names_count_and_are_sorted_by_bytes(tmp_path: Path) -> None:
    files = {"b.lock": b"2", "a.lock": b"1", "B.lock": b"0", "deep/er/c.lock": b"3"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "d.lock").mkdir()
    plain = {name: content for name, content in files.items() if "/" not in name}
    assert expand('{{ hash "*.lock" }}', str(tmp_path)) == by_hand(plain)
    assert expand('{{ hash "**/*.lock" }}', str(tmp_path)) == by_hand(files)


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="/\0.", exclude_categories=["Cs"]), min_size=1, max_size=20),
        st.binary(max_size=200),
        min_size=1,
        max_size=8,
    )
)
def test_any_names_and_contents(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as root:
        for name, content in files.items():
            Path(root, name).write_bytes(content)
        expected = hashlib.sha256()
        for name in sorted(files, key=os.fsencode):
            expected.update(os.fsencode(name) + b"\n" + files[name] + b"\n")
        assert expand('{{ hash "*" }}', root) == expected.hexdigest()[:12]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "empty"),
        (" ", "empty"),
        ("x" * 1025, "longer than 1024 bytes"),
        ("é" * 513, "longer than 1024 bytes"),
        ("a-{{ hash go.sum }}", "not part of"),
        ('a-{{ HASH "go.sum" }}', "not part of"),
        ('a-{{hash"go.sum"}}', "not part of"),
        ("a-{{", "not part of"),
        ('{{ hash "go.sum" }}{{', "not part of"),
        ('{{ hash "" }}', "hashes no file"),
        ('{{ hash "/etc/passwd" }}', "outside the workspace"),
        ('{{ hash "a/../b" }}', "outside the workspace"),
        ('{{ hash "a..b" }}', "outside the workspace"),
        (f'{{{{ hash "{"x" * 256}" }}}}', "longer than 255 bytes"),
        ('{{ hash "go.sum" }}' * 6, "at most 5"),
        ('a b-{{ hash "go.sum" }}', "letters, digits"),
        ('${X}-{{ hash "go.sum" }}', "letters, digits"),
        ('{{ hash "gone" }}', "no file matches 'gone'"),
        ('{{ hash "*.gone" }}', "no file matches"),
        ('{{ hash "web" }}', "no file matches"),
        ('{{ hash "a[" }}', "without its"),
    ],
)
def test_what_is_refused(root: Path, key: str, message: str) -> None:
    with pytest.raises(CacheKeyError, match=message):
        expand(key, str(root))


def test_links_may_not_lead_out(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_text("x")
    (root / "link").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    (root / "inside").symlink_to("go.sum")
    for pattern in ("link", "l*", "folder/secret"):
        with pytest.raises(CacheKeyError, match="leads out"):
            expand(f'{{{{ hash "{pattern}" }}}}', str(root))
    assert expand('{{ hash "inside" }}', str(root)) == by_hand({"inside": b"h1:abc\n"})


def test_files_are_bounded_in_number_and_size(root: Path) -> None:
    for number in range(101):
        (root / f"{number}.many").touch()
    with pytest.raises(CacheKeyError, match="matches more than 100 files; that is the limit"):
        expand('{{ hash "*.many" }}', str(root))
    with open(root / "large.big", "wb") as file:
        file.truncate(16 * 1024 * 1024)
    expand('{{ hash "*.big" }}', str(root))
    os.truncate(root / "large.big", 16 * 1024 * 1024 + 1)
    with pytest.raises(CacheKeyError, match="larger than 16 MiB; that is the limit"):
        expand('{{ hash "*.big" }}', str(root))
    os.unlink(root / "large.big")
    for number in range(5):
        with open(root / f"{number}.big", "wb") as file:
            file.truncate(13 * 1024 * 1024)
    with pytest.raises(CacheKeyError, match="more than 64 MiB; that is the limit"):
        expand('{{ hash "*.big" }}', str(root))
