"""The GitHub App of the environment: what is taken, and what is refused without being repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gocdnext.errors import InvalidError
from gocdnext.forges.apps import of_environment
from gocdnext.forges.github_app import read_key
from tests.forge import pem


def test_none() -> None:
    assert of_environment(0, "", None, "", "") is None


def test_a_key_of_a_variable_or_a_file(tmp_path: Path) -> None:
    said = of_environment(7, pem().replace("\n", "\\n"), None, "", "hush")
    assert said is not None
    assert (said.app_id, said.api, said.webhook_secret, said.id) == (7, "https://api.github.com", "hush", None)
    assert "hush" not in repr(said)
    file = tmp_path / "key.pem"
    file.write_text(pem())
    assert of_environment(7, "", file, "https://ghe.example/api/v3", "") is not None


def private(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    kind = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()).decode()


def test_keys_that_are_none() -> None:
    public = read_key(pem()).as_pem(private=False).decode()
    for text in (
        "", "s3cret", public, private(ec.generate_private_key(ec.SECP256R1())),
        private(rsa.generate_private_key(65537, 1024)), pem()[:400], "-----BEGIN RSA PRIVATE KEY-----\ns3cret",
    ):  # fmt: skip
        with pytest.raises(InvalidError) as refused:
            read_key(text)
        assert "s3cret" not in str(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__context__ is None


def test_an_app_without_a_key(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="GOCDNEXT_GITHUB_APP_PRIVATE_KEY"):
        of_environment(7, "", None, "", "")
    with pytest.raises(InvalidError, match="cannot be read"):
        of_environment(7, "", tmp_path / "missing", "", "")
