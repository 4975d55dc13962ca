"""What the scrubber takes out, and what it leaves."""

from __future__ import annotations

import pytest

from gocdnext.doctor.scrub import STRUCK, Scrubber, secrets_of

UNKNOWN = Scrubber(())


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ci:hunter2@db/ci",
        "cloning https://hunter2:x-oauth-basic@github.com/a/b.git failed",
        "GET /artifacts/x?token=hunter2&y=1",
        "GET https://s3/b/k?X-Amz-Signature=hunter2",
        "Authorization: Bearer hunter2",
        "authorization=Basic hunter2==",
        "password=hunter2",
        "DB_PASSWORD: 'hunter2'",
        'say {"client_secret": "hunter2"}',
        "the token is hunter2",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\nhunter2\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN EC PRIVATE KEY-----\nhunter2\nbroken off",
    ],
)
def test_what_looks_like_a_secret(text: str) -> None:
    scrubbed = UNKNOWN.text(text)
    assert "hunter2" not in scrubbed
    assert STRUCK in scrubbed


@pytest.mark.parametrize(
    "word",
    [
        "gnk_" + "0123456789abcdef" * 4,
        "gna_" + "0123456789abcdef" * 4,
        "ghp_abcdefghijklmnopqrstuvwxyz",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY1",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    ],
)
def test_long_random_words(word: str) -> None:
    assert word not in UNKNOWN.text(f"it said {word} and went on")


@pytest.mark.parametrize(
    "text",
    [
        "run 0b8f1f0e-4a55-4b30-9f0e-2f5f3a6f7d11 failed after 12.5 s",
        "/var/lib/gocdnext/artifacts cannot be written: No space left on device",
        'gocdnext_job_duration_seconds_bucket{le="0.0109",status="success"} 12.0',
        "https://ci.example.com/healthz answers 502",
        "2026-11-24T22:40:57.123456Z",
    ],
)
def test_what_is_left_alone(text: str) -> None:
    assert UNKNOWN.text(text) == text


def test_known_values_in_any_spelling() -> None:
    environ = {
        "GOCDNEXT_SECRET_KEY": "aa" * 32 + "," + "bb" * 32,
        "AWS_SECRET_ACCESS_KEY": "short1",
        "GOCDNEXT_DATABASE_URL": "postgresql://ci:p%40ss@db/ci",
        "GOCDNEXT_GITHUB_APP_PRIVATE_KEY": "-----BEGIN KEY-----\\nfirstline\\nsecond\\n-----END KEY-----",
        "GOCDNEXT_LOG_LEVEL": "debug",
    }
    scrubber = Scrubber(secrets_of(environ))
    for value in ("aa" * 32, "bb" * 32, "short1", "p%40ss", "p@ss", "firstline", "second"):
        assert value not in scrubber.text(f"before {value} after")
    assert scrubber.text("debug") == "debug"


def test_documents_are_scrubbed_by_name_and_by_value() -> None:
    said = {"setup_code": "ABCD-EFGH", "n": 3, "nested": [{"api_key": "x1", "ok": True}], "url": "http://u:p@h/"}
    assert UNKNOWN.document(said) == {
        "setup_code": STRUCK,
        "n": 3,
        "nested": [{"api_key": STRUCK, "ok": True}],
        "url": f"http://{STRUCK}@h/",
    }
