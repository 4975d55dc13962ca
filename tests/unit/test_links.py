"""Signed links: what they open, and that nothing else does."""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gocdnext.blobs.links import Links, save_as

NOW = datetime(2026, 4, 28, 13, 0, 0, 400_000, tzinfo=UTC)
KEY = "run/a/job/b/c"
LINKS = Links(b"k" * 32, "https://ci.example.org")


def token(url: str) -> str:
    path = urlsplit(url).path
    assert path.startswith("/artifacts/")
    return path.removeprefix("/artifacts/")


def test_a_link_opens_its_blob_with_its_verb_until_it_runs_out() -> None:
    link = LINKS.upload(KEY, NOW)
    assert link.url.startswith("https://ci.example.org/artifacts/")
    assert link.expires_at == datetime(2026, 4, 28, 13, 15, tzinfo=UTC)
    for moment in (NOW, link.expires_at, link.expires_at + timedelta(milliseconds=999)):
        assert LINKS.opens(token(link.url), "PUT", moment) == KEY
    assert LINKS.opens(token(link.url), "PUT", link.expires_at + timedelta(seconds=1)) is None
    assert LINKS.opens(token(link.url), "GET", NOW) is None
    assert LINKS.download(KEY, NOW).expires_at - NOW.replace(microsecond=0) == timedelta(minutes=30)


def test_the_token_has_the_form_of_the_contract() -> None:
    key, verb, until, signature = token(LINKS.download(KEY, NOW).url).split(".")
    assert base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)).decode() == KEY
    assert (verb, until) == ("GET", str(int(NOW.timestamp()) + 1800))
    made = hmac.digest(b"k" * 32, f"{key}.GET.{until}".encode(), "sha256")
    assert signature == base64.urlsafe_b64encode(made).decode().rstrip("=")


def test_a_link_for_people_has_a_name_and_their_address() -> None:
    link = LINKS.shown(KEY, NOW, save_as("dist/my app & co"), "http://host:1")
    assert link.url.startswith("http://host:1/artifacts/")
    assert urlsplit(link.url).query == "filename=my%20app%20%26%20co.tar.gz"
    assert link.expires_at == datetime(2026, 4, 28, 13, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("dist/app", "app.tar.gz"),
        ("dist/", "dist.tar.gz"),
        ("x", "x.tar.gz"),
        ("///", "artifact.tar.gz"),
        ("", "artifact.tar.gz"),
    ],
)
def test_the_name_an_artifact_is_saved_under(path: str, name: str) -> None:
    assert save_as(path) == name


@pytest.mark.parametrize("wrong", ["", ".", "...", "a.b.c.d", "x" * 5000, "é.GET.1.x", "\0", "a.PUT.9999999999."])
def test_what_is_no_token(wrong: str) -> None:
    assert LINKS.opens(wrong, "PUT", NOW) is None


def test_a_token_of_another_key_verb_time_or_blob() -> None:
    good = token(LINKS.download(KEY, NOW).url)
    key, _, until, signature = good.split(".")
    other = base64.urlsafe_b64encode(b"run/a/job/b/d").decode().rstrip("=")
    for tampered in (
        f"{other}.GET.{until}.{signature}",
        f"{key}.PUT.{until}.{signature}",
        f"{key}.GET.{int(until) + 1}.{signature}",
        f"{key}.GET.+{until}.{signature}",
        f"{key}=.GET.{until}.{signature}",
        f"{good}=",
        f"{good}.",
        f".{good}",
        good.lower(),
        token(Links(b"j" * 32, "").download(KEY, NOW).url),
    ):
        assert all(LINKS.opens(tampered, verb, NOW) is None for verb in ("GET", "PUT"))


@given(position=st.integers(0, 200), letter=st.sampled_from("ABCxyz019-_."))
def test_one_changed_character_is_enough(position: int, letter: str) -> None:
    good = token(LINKS.download(KEY, NOW).url)
    at = position % len(good)
    changed = good[:at] + letter + good[at + 1 :]
    assert (LINKS.opens(changed, "GET", NOW) is None) == (changed != good)
