"""Settings: defaults, what is refused and with which words, and that the generated pages are the generated pages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gocdnext import config
from gocdnext.blobs.room import own_address
from gocdnext.cli import manual

DOCS = Path(__file__).parents[2] / "docs"


def load(**variables: str) -> config.Settings:
    return config.load({"HOME": "/home/x"} | variables)


def test_defaults_are_loopback_without_authentication() -> None:
    settings = load()
    assert settings.http_addr == ("127.0.0.1", 8153)
    assert settings.grpc_addr == ("127.0.0.1", 8154)
    assert not settings.auth_enabled
    assert settings.database_url is None


@pytest.mark.parametrize(
    ("addr", "said", "enabled"),
    [
        ("127.0.0.1:1", "", False),
        ("localhost:1", "", False),
        ("[::1]:1", "", False),
        (":8153", "", True),
        ("10.0.0.1:1", "", True),
        ("ci.example.org:1", "", True),
        (":8153", "false", False),
        ("127.0.0.1:1", "TRUE", True),
    ],
)
def test_authentication_is_on_beyond_loopback_unless_said_otherwise(addr: str, said: str, enabled: bool) -> None:
    assert load(GOCDNEXT_HTTP_ADDR=addr, GOCDNEXT_AUTH_ENABLED=said).auth_enabled is enabled


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("GOCDNEXT_HTTP_ADDR", "8153", "expected host:port"),
        ("GOCDNEXT_HTTP_ADDR", "host:99999", "expected host:port"),
        ("GOCDNEXT_HTTP_ADDR", "host:-1", "expected host:port"),
        ("GOCDNEXT_DATABASE_POOL", "1", "from 2 to 100"),
        ("GOCDNEXT_DATABASE_POOL", "9" * 40, "from 2 to 100"),
        ("GOCDNEXT_DATABASE_POOL", "٣", "from 2 to 100"),
        ("GOCDNEXT_AUTH_ENABLED", "yes", "expected true or false"),
        ("GOCDNEXT_ARTIFACTS_SIGN_KEY", "abcdef", "at least 32 hexadecimal digits"),
        ("GOCDNEXT_ARTIFACTS_SIGN_KEY", "a" * 33, "at least 32 hexadecimal digits"),
        ("GOCDNEXT_ARTIFACTS_SIGN_KEY", "g" * 32, "at least 32 hexadecimal digits"),
        ("GOCDNEXT_ARTIFACTS_SIGN_KEY", "٣" * 32, "at least 32 hexadecimal digits"),
        ("GOCDNEXT_ARTIFACTS_MAX_BODY_MB", "1GB", "expected a whole number"),
        ("GOCDNEXT_ARTIFACTS_MIN_FREE_MB", "-1", "expected a whole number"),
        ("GOCDNEXT_CACHE_TTL_DAYS", "7d", "expected a whole number"),
        ("GOCDNEXT_APPROVAL_DEFAULT_TIMEOUT", "7d", "expected a duration"),
        ("GOCDNEXT_APPROVAL_DEFAULT_TIMEOUT", "-1h", "expected a duration"),
        ("GOCDNEXT_OFFLINE", "yes", "expected true or false"),
        ("GOCDNEXT_OUTBOUND_ALLOW", "git.example,http://x", "http://x is neither a host"),
        ("GOCDNEXT_OUTBOUND_ALLOW", "10.0.0.0/64", "10.0.0.0/64 is neither a host"),
        ("HTTPS_PROXY", "socks5://127.0.0.1:1080", "expected the url of an HTTP proxy"),
        ("HTTP_PROXY", "http://", "expected the url of an HTTP proxy"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(name: str, value: str, words: str) -> None:
    with pytest.raises(config.ConfigError, match=words) as refused:
        load(**{name: value})
    assert str(refused.value).startswith(name)


def test_a_bad_key_is_not_repeated_in_the_message() -> None:
    with pytest.raises(config.ConfigError) as refused:
        load(GOCDNEXT_ARTIFACTS_SIGN_KEY="s3cret")
    assert "s3cret" not in str(refused.value)


def test_whom_the_server_may_call_and_through_which_proxy() -> None:
    policy = load(
        GOCDNEXT_OFFLINE="true",
        GOCDNEXT_OUTBOUND_ALLOW="git.example",
        https_proxy="proxy:3128",
        NO_PROXY="x.example, ??:",
    ).outbound
    assert policy.offline
    assert policy.allow.has_name("git.example")
    assert policy.proxy_for("https", "far.example") == "http://proxy:3128"
    assert policy.proxy_for("http", "far.example") == policy.proxy_for("https", "x.example") == ""
    assert not load().outbound.offline


def test_a_bad_proxy_is_not_repeated_in_the_message() -> None:
    with pytest.raises(config.ConfigError) as refused:
        load(HTTPS_PROXY="ftp://user:s3cret@proxy")
    assert "s3cret" not in str(refused.value)


def test_where_artifacts_are_and_how_agents_reach_them() -> None:
    settings = load(GOCDNEXT_STATE_DIR="/state")
    assert (settings.artifacts_root, settings.artifacts_base, settings.artifacts_key) == (
        Path("/state/artifacts"),
        "",
        None,
    )
    assert (settings.artifacts_max_bytes, settings.artifacts_min_free) == (2 * 2**30, 2**30)
    settings = load(GOCDNEXT_PUBLIC_BASE="https://ci.example.org/", GOCDNEXT_ARTIFACTS_FS_ROOT="/disk")
    assert (settings.artifacts_root, settings.artifacts_base) == (Path("/disk"), "https://ci.example.org")
    settings = load(GOCDNEXT_PUBLIC_BASE="https://ci", GOCDNEXT_ARTIFACTS_PUBLIC_BASE="http://inside:8153/")
    assert settings.artifacts_base == "http://inside:8153"
    assert load(GOCDNEXT_ARTIFACTS_SIGN_KEY="0aB1" * 8).artifacts_key == b"\x0a\xb1" * 8


@pytest.mark.parametrize(
    ("addr", "base"),
    [
        (("127.0.0.1", 8153), "http://127.0.0.1:8153"),
        (("0.0.0.0", 80), "http://localhost:80"),
        (("::", 80), "http://localhost:80"),
        (("fd00::1", 8153), "http://[fd00::1]:8153"),
        (("ci.example.org", 8153), "http://ci.example.org:8153"),
    ],
)
def test_the_address_of_links_when_nobody_said_one(addr: tuple[str, int], base: str) -> None:
    assert own_address(addr) == base


def test_an_empty_variable_counts_as_unset() -> None:
    assert load(GOCDNEXT_HTTP_ADDR="", GOCDNEXT_DATABASE_URL="  ").database_url is None


def test_the_state_directory_is_told_found_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.load({}, state_dir=Path("/said")).state_dir == Path("/said")
    assert load(GOCDNEXT_STATE_DIR="/by/variable").state_dir == Path("/by/variable")
    assert load(STATE_DIRECTORY="/var/lib/a:/var/lib/b").state_dir == Path("/var/lib/a")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert load().state_dir == Path("/home/x/.local/state/gocdnext")
    with pytest.raises(config.ConfigError, match="--state"):
        config.load({})


def test_the_drawn_state_machine_is_what_the_code_does() -> None:
    made = subprocess.run([sys.executable, DOCS.parent / "packaging/draw_states.py"], capture_output=True, check=True)
    assert made.stdout.decode() == (DOCS / "state-machine.md").read_text(), "run: python3 build.py docs"


def test_the_list_of_plugins_is_that_of_the_manifests() -> None:
    made = subprocess.run([sys.executable, DOCS.parent / "packaging/list_plugins.py"], capture_output=True, check=True)
    assert made.stdout.decode() == (DOCS / "plugins.md").read_text(), "run: python3 build.py docs"


@pytest.mark.parametrize("page", ["configuration", "cli"])
def test_generated_pages_are_up_to_date(page: str) -> None:
    made = getattr(manual, page)() + "\n"
    assert (DOCS / f"{page}.md").read_text() == made, "run: python3 build.py docs"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("", 168 * 3600), ("never", None), ("OFF", None), ("0", None), ("1s", 60), ("9999h", 2160 * 3600), ("90m", 5400)],
)
def test_how_long_gates_wait(said: str, seconds: int | None) -> None:
    assert load(GOCDNEXT_APPROVAL_DEFAULT_TIMEOUT=said).approval_timeout == seconds


SIGN_IN = {
    "GOCDNEXT_AUTH_ENABLED": "true",
    "GOCDNEXT_PUBLIC_BASE": "https://ci.acme.example/",
    "GOCDNEXT_AUTH_OIDC_CLIENT_ID": "gocd",
    "GOCDNEXT_AUTH_OIDC_CLIENT_SECRET": "hidden-value",
    "GOCDNEXT_AUTH_OIDC_ISSUER": "https://sso.acme.example/",
}


def test_providers_of_the_environment() -> None:
    more = {
        "GOCDNEXT_AUTH_GOOGLE_CLIENT_ID": "g",
        "GOCDNEXT_AUTH_GOOGLE_CLIENT_SECRET": "s",
        "GOCDNEXT_AUTH_GITHUB_CLIENT_ID": "h",
        "GOCDNEXT_AUTH_GITHUB_CLIENT_SECRET": "s",
        "GOCDNEXT_AUTH_GITHUB_API_BASE": "https://git.acme.example/api/v3/",
        "GOCDNEXT_AUTH_KEYCLOAK_ISSUER": "https://unused.example",
        "GOCDNEXT_AUTH_ADMIN_EMAILS": " ann@acme.example ,, Joe@acme.example",
        "GOCDNEXT_AUTH_ALLOWED_DOMAINS": "@acme.example, other.example",
    }
    settings = load(**SIGN_IN, **more)
    assert [(each.name, each.kind, each.display, each.issuer, each.github_api_base) for each in settings.providers] == [
        ("github", "github", "GitHub", "", "https://git.acme.example/api/v3"),
        ("google", "oidc", "Google", "https://accounts.google.com", ""),
        # To the letter: an issuer may end with a slash.
        ("oidc", "oidc", "Single Sign-On", "https://sso.acme.example/", ""),
    ]
    assert settings.admin_emails == ("ann@acme.example", "Joe@acme.example")
    assert settings.allowed_domains == ("acme.example", "other.example")
    assert "hidden-value" not in repr(settings)
    assert load(**SIGN_IN | {"GOCDNEXT_AUTH_ENABLED": "false"}).providers == ()


@pytest.mark.parametrize("missing", ["CLIENT_ID", "CLIENT_SECRET", "ISSUER"])
def test_half_a_provider_is_a_mistake(missing: str) -> None:
    environ = {name: value for name, value in SIGN_IN.items() if not name.endswith(missing)}
    with pytest.raises(config.ConfigError, match="belong together") as caught:
        load(**environ)
    assert "hidden-value" not in str(caught.value)


@pytest.mark.parametrize("base", ["", "ci.acme.example"])
def test_a_provider_needs_an_address_to_come_back_to(base: str) -> None:
    with pytest.raises(config.ConfigError, match="GOCDNEXT_PUBLIC_BASE"):
        load(**SIGN_IN | {"GOCDNEXT_PUBLIC_BASE": base})
