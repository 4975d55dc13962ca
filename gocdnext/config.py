"""Every setting of the server: one table of `GOCDNEXT_*` variables, one frozen value made from it.

`python -m gocdnext.config` prints the table as the documentation page. Settings are read once, at start.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import hexdigits
from typing import Final
from urllib.parse import urlsplit

from gocdnext.durations import go_duration
from gocdnext.errors import DomainError
from gocdnext.outbound.hosts import Hosts
from gocdnext.outbound.policy import Policy


class ConfigError(DomainError):
    """A variable has a value that cannot be meant; the message names it and says what would do."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One row of the table. `default` is the text that the variable would have to hold."""

    name: str
    kind: str
    default: str
    meaning: str


VARIABLES: Final = (
    Variable(
        "GOCDNEXT_STATE_DIR",
        "path",
        "",
        "Everything the server keeps: database, keys, blobs. `serve --state` wins. Empty: `$STATE_DIRECTORY` under "
        "systemd, `/var/lib/gocdnext` as root, else `~/.local/state/gocdnext`.",
    ),
    Variable(
        "GOCDNEXT_HTTP_ADDR",
        "host:port",
        "127.0.0.1:8153",
        "Where HTTP is served. `:8153` is every address. Authentication is on by default when it is not loopback.",
    ),
    Variable("GOCDNEXT_GRPC_ADDR", "host:port", "127.0.0.1:8154", "Where agents connect (cleartext HTTP/2)."),
    Variable(
        "GOCDNEXT_DATABASE_URL",
        "url",
        "",
        "An external PostgreSQL (15 to 18) instead of the embedded one.",
    ),
    Variable(
        "GOCDNEXT_PG_BINDIR",
        "path",
        "",
        "Folder with `postgres` and `initdb` to use instead of the bundled ones.",
    ),
    Variable("GOCDNEXT_DATABASE_POOL", "number", "10", "Connections to the database, 2 to 100."),
    Variable("GOCDNEXT_LOG_LEVEL", "word", "info", "debug, info, warn or error; anything else means info."),
    Variable(
        "GOCDNEXT_AUTH_ENABLED",
        "true or false",
        "",
        "Empty: on exactly when HTTP is served beyond loopback. `false` switches it off, said explicitly.",
    ),
    Variable(
        "GOCDNEXT_AGENT_REGISTRATION_TOKEN",
        "secret",
        "",
        "Lets agents that present it register themselves. Empty: the random one in the state directory.",
    ),
    Variable(
        "GOCDNEXT_SECRET_KEY",
        "secret",
        "",
        "What secrets are sealed with: 64 hex digits. Several, with commas: the first seals, the others open what is older, "
        "and at start everything is sealed with the first. Empty: the random one in the state directory.",
    ),
    Variable(
        "GOCDNEXT_OIDC_TOKEN_TTL",
        "duration",
        "1h",
        "How long the identity tokens of jobs (`id_tokens`) are valid. Kept within 5m and 24h. They are issued in the name "
        "of `GOCDNEXT_PUBLIC_BASE`, and not at all without it.",
    ),
    Variable(
        "GOCDNEXT_SECRET_FILES_DIR",
        "path",
        "",
        "A directory whose files jobs may have as secrets of the source `file`. Empty: `$CREDENTIALS_DIRECTORY` of systemd, "
        "and of that only what begins with `secret_` (`LoadCredential=secret:/some/folder`).",
    ),
    Variable(
        "GOCDNEXT_SECRET_CACHE_TTL",
        "duration",
        "60s",
        "How long values of other stores are kept in memory; 0 is not at all.",
    ),
    Variable(
        "GOCDNEXT_SECRET_FETCH_TIMEOUT",
        "duration",
        "10s",
        "How long another store may take to give a value, 1s to 60s.",
    ),
    Variable(
        "GOCDNEXT_SECRET_VAULT_ENABLED",
        "switch",
        "false",
        "Secrets of the source `vault` come from HashiCorp Vault or OpenBao. What administrators set replaces all of "
        "`GOCDNEXT_SECRET_VAULT_*`.",
    ),
    Variable(
        "GOCDNEXT_SECRET_VAULT_ADDR",
        "url",
        "",
        "Where it is. An address in a private network must be in `GOCDNEXT_OUTBOUND_ALLOW`.",
    ),
    Variable(
        "GOCDNEXT_SECRET_VAULT_KV_MOUNT",
        "text",
        "",
        "The mount of its KV store, of either version. Empty: references are whole paths of its API.",
    ),
    Variable(
        "GOCDNEXT_SECRET_VAULT_AUTH", "word", "approle", "How the server signs in: `approle`, `kubernetes` or `token`."
    ),
    Variable("GOCDNEXT_SECRET_VAULT_ROLE", "text", "", "The role, for `kubernetes`."),
    Variable("GOCDNEXT_SECRET_VAULT_ROLE_ID", "text", "", "The id of the role, for `approle`."),
    Variable("GOCDNEXT_SECRET_VAULT_SECRET_ID", "secret", "", "The credential for `approle`."),
    Variable("GOCDNEXT_SECRET_VAULT_TOKEN", "secret", "", "The credential for `token`."),
    Variable(
        "GOCDNEXT_SECRET_VAULT_JWT_PATH",
        "path",
        "",
        "The token of the service account, below `/var/run/secrets/`. Empty: the one in the pod.",
    ),
    Variable("GOCDNEXT_SECRET_VAULT_NAMESPACE", "text", "", "The namespace, where there are some."),
    Variable("GOCDNEXT_SECRET_VAULT_CACERT", "text", "", "The authority of its certificate: PEM, or a file with it."),
    Variable(
        "GOCDNEXT_SECRET_VAULT_SKIP_VERIFY", "switch", "false", "`true` takes any certificate: only for trying out."
    ),
    Variable(
        "GOCDNEXT_AGENT_LEASE",
        "duration",
        "75s",
        "How long an agent that has lost its connection keeps its running jobs, at most 10m; nobody else gets them "
        "before. `off` or `0`: they are repeated as soon as it is back.",
    ),
    Variable(
        "GOCDNEXT_PUBLIC_BASE",
        "url",
        "",
        "The address people and providers reach this server by; used in links.",
    ),
    Variable(
        "GOCDNEXT_TRUSTED_PROXIES",
        "addresses",
        "",
        "Addresses or networks, with commas between them, of proxies whose `X-Forwarded-For` is believed. This machine always "
        "is one.",
    ),
    Variable(
        "GOCDNEXT_ARTIFACTS_FS_ROOT",
        "path",
        "",
        "Where artifacts and caches are kept. Empty: `artifacts` in the state directory. Several servers share one.",
    ),
    Variable(
        "GOCDNEXT_ARTIFACTS_PUBLIC_BASE",
        "url",
        "",
        "The address agents reach this server's HTTP port by, used in the links to artifacts and caches. Empty: "
        "`GOCDNEXT_PUBLIC_BASE`, else the address HTTP is served on, with `localhost` for every address.",
    ),
    Variable(
        "GOCDNEXT_ARTIFACTS_SIGN_KEY",
        "secret",
        "",
        "At least 32 hexadecimal digits that sign those links; several servers need the same. Empty: the random key in "
        "the state directory.",
    ),
    Variable(
        "GOCDNEXT_ARTIFACTS_MAX_BODY_MB",
        "number",
        "2048",
        "The largest artifact or cache that is taken, in MiB; 0 is any size.",
    ),
    Variable(
        "GOCDNEXT_ARTIFACTS_MIN_FREE_MB",
        "number",
        "1024",
        "Uploads are refused (507) when they would leave less than this free on the disk of the artifacts, in MiB: the "
        "database needs room too. 0 is no such limit.",
    ),
    Variable("GOCDNEXT_CACHE_TTL_DAYS", "number", "30", "Days that a cache is kept which no job reads; 0 is for ever."),
    Variable(
        "GOCDNEXT_CACHE_PROJECT_QUOTA_BYTES", "number", "0", "Bytes of caches that a project may keep; 0 is no limit."
    ),
    Variable("GOCDNEXT_CACHE_GLOBAL_QUOTA_BYTES", "number", "0", "Bytes of all caches together; 0 is no limit."),
    Variable(
        "GOCDNEXT_ARTIFACTS_KEEP_LAST",
        "number",
        "30",
        "Runs of each pipeline whose artifacts are kept; those of older runs go before their time. 0 is no limit.",
    ),
    Variable(
        "GOCDNEXT_ARTIFACTS_PROJECT_QUOTA_BYTES",
        "number",
        "107374182400",
        "Bytes of artifacts that a project may keep; the oldest go before their time. 0 is no limit.",
    ),
    Variable("GOCDNEXT_ARTIFACTS_GLOBAL_QUOTA_BYTES", "number", "0", "The same for all projects together."),
    Variable(
        "GOCDNEXT_LOG_RETENTION",
        "duration",
        "off",
        "How long log lines are kept in the database, by whole months: a partition goes when its last line is older. "
        "`off` is for ever. Kept within 24h and 87600h.",
    ),
    Variable(
        "GOCDNEXT_LOG_ARCHIVE",
        "word",
        "auto",
        "auto or on: logs of ended jobs become compressed blobs, unless their project says otherwise. off: never.",
    ),
    Variable(
        "GOCDNEXT_APPROVAL_DEFAULT_TIMEOUT",
        "duration",
        "168h",
        "How long a gate without a `timeout` of its own waits before its run is cancelled; `never`, `off` or `0` is for "
        "ever. Kept within 1m and 2160h.",
    ),
    Variable(
        "GOCDNEXT_PLUGIN_CATALOG_DIR",
        "paths",
        "",
        "Folders of further plugin manifests, `<folder>/<name>/plugin.yaml`, with colons between them; a later one replaces "
        "a plugin of the same name. Read at start, and by `gocdnext validate`.",
    ),
    Variable(
        "GOCDNEXT_RUNNER_PROFILES_FILE",
        "path",
        "",
        "YAML with a list `profiles` of runner profiles, which are made or replaced at start; their secrets stay, none is "
        "removed.",
    ),
    Variable(
        "GOCDNEXT_LOG_MONTHS_AHEAD",
        "number",
        "3",
        "Monthly partitions of log lines kept ready, 1 to 24.",
    ),
    Variable(
        "GOCDNEXT_WEBHOOK_PUBLIC_URL",
        "url",
        "",
        "Where hooks that the server registers point to, when that is not `GOCDNEXT_PUBLIC_BASE`: for GitHub the whole url, "
        "for GitLab and Bitbucket the part before `/api/webhooks/`.",
    ),
    Variable("GOCDNEXT_GITHUB_APP_ID", "number", "0", "The GitHub App that this server acts as; 0 is none."),
    Variable(
        "GOCDNEXT_GITHUB_APP_PRIVATE_KEY",
        "secret",
        "",
        "Its private key in PEM; line breaks may be written as `\\n`.",
    ),
    Variable("GOCDNEXT_GITHUB_APP_PRIVATE_KEY_FILE", "path", "", "A file with that key instead."),
    Variable(
        "GOCDNEXT_GITHUB_APP_API_BASE",
        "url",
        "",
        "The API of the GitHub that the App belongs to, `https://HOST/api/v3` for an Enterprise Server. Empty: github.com.",
    ),
    Variable(
        "GOCDNEXT_GITHUB_APP_WEBHOOK_SECRET",
        "secret",
        "",
        "What the App's own webhook (`/api/webhooks/github/app`) is signed with.",
    ),
    Variable(
        "GOCDNEXT_OFFLINE",
        "true or false",
        "false",
        "`true`: the server calls nobody: no provider, no other server of the web, no git repository over the network.",
    ),
    Variable(
        "GOCDNEXT_OUTBOUND_ALLOW",
        "hosts",
        "",
        "What the server may call although it is inside: names, domains (`*.corp.example`), addresses and networks "
        "(`10.1.0.0/16`), with commas between them. Everything else on loopback, link-local and private addresses is refused. "
        "Calls go through `HTTPS_PROXY` and `HTTP_PROXY` except to what `NO_PROXY` lists.",
    ),
    Variable(
        "GOCDNEXT_AUTH_ADMIN_EMAILS",
        "e-mails",
        "",
        "Who becomes an admin at the first sign-in by way of a provider; everybody else becomes a maintainer. With commas.",
    ),
    Variable(
        "GOCDNEXT_AUTH_ALLOWED_DOMAINS",
        "domains",
        "",
        "Of which domains the e-mail must be for a sign-in by way of a provider, exactly; with commas. Empty: of any.",
    ),
    Variable(
        "GOCDNEXT_AUTH_GITHUB_CLIENT_ID",
        "word",
        "",
        "The OAuth app that people sign in with at GitHub. This and the other providers need `GOCDNEXT_PUBLIC_BASE`; the "
        "callback address to register there is `<public base>/auth/callback/github`, and alike for the others.",
    ),
    Variable("GOCDNEXT_AUTH_GITHUB_CLIENT_SECRET", "secret", "", "Its secret."),
    Variable(
        "GOCDNEXT_AUTH_GITHUB_API_BASE",
        "url",
        "",
        "The API of a GitHub Enterprise Server, such as `https://github.corp.example/api/v3`. Empty: github.com.",
    ),
    Variable("GOCDNEXT_AUTH_GOOGLE_CLIENT_ID", "word", "", "The client that people sign in with at Google."),
    Variable("GOCDNEXT_AUTH_GOOGLE_CLIENT_SECRET", "secret", "", "Its secret."),
    Variable("GOCDNEXT_AUTH_GOOGLE_ISSUER", "url", "https://accounts.google.com", "Who vouches for them."),
    Variable("GOCDNEXT_AUTH_KEYCLOAK_CLIENT_ID", "word", "", "The client that people sign in with at Keycloak."),
    Variable("GOCDNEXT_AUTH_KEYCLOAK_CLIENT_SECRET", "secret", "", "Its secret."),
    Variable("GOCDNEXT_AUTH_KEYCLOAK_ISSUER", "url", "", "The realm: `https://keycloak.corp.example/realms/eng`."),
    Variable(
        "GOCDNEXT_AUTH_OIDC_CLIENT_ID", "word", "", "The client that people sign in with at another OpenID provider."
    ),
    Variable("GOCDNEXT_AUTH_OIDC_CLIENT_SECRET", "secret", "", "Its secret."),
    Variable("GOCDNEXT_AUTH_OIDC_ISSUER", "url", "", "Its issuer, to the letter as its discovery document names it."),
    Variable("GOCDNEXT_AUTH_OIDC_NAME", "text", "Single Sign-On", "What the button on the login page says."),
)


@dataclass(frozen=True, slots=True)
class SignInProvider:
    """A provider by whom people may sign in, as the environment or the database describes it (contract-admin 7.10, 13)."""

    name: str
    """Part of the identity of its people, and of the callback address."""
    kind: str
    """`github` or `oidc`."""
    display: str
    client_id: str
    client_secret: str = field(repr=False)
    issuer: str = ""
    """Of kind `oidc`."""
    github_api_base: str = ""
    """Of kind `github`; empty for github.com."""


Address = tuple[str, int]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_KEY = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class GithubApp:
    """The GitHub App of the environment, as it was said; `app_id` 0 is none."""

    app_id: int = 0
    private_key: str = field(default="", repr=False)
    private_key_file: Path | None = None
    api_base: str = ""
    webhook_secret: str = field(default="", repr=False)


@dataclass(frozen=True)
class Quotas:
    """How much is kept of artifacts and caches; 0 is no limit everywhere."""

    keep_last: int = 0
    """Runs of each pipeline whose artifacts are kept."""
    project: int = 0
    """Bytes of artifacts of one project."""
    everything: int = 0
    """Bytes of all artifacts."""
    project_caches: int = 0
    """Bytes of caches of one project."""
    all_caches: int = 0
    """Bytes of all caches."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one server process."""

    state_dir: Path
    http_addr: Address
    grpc_addr: Address
    database_url: str | None
    pg_bindir: Path | None
    pool_size: int
    log_level: str
    auth_enabled: bool
    agent_registration_token: str | None
    secret_keys: tuple[bytes, ...]
    """Empty: the key of the state directory."""
    secret_files: Path | None
    credentials_directory: Path | None
    """`$CREDENTIALS_DIRECTORY` of systemd."""
    secret_cache_ttl: int
    """Seconds; 0 = values of other stores are not kept."""
    secret_fetch_timeout: int
    vault_enabled: bool
    vault: Mapping[str, str] = field(repr=False)
    """What is said of Vault, by the names of contract-admin 5.8; what is empty is not there."""
    oidc_token_ttl: int
    """Seconds that identity tokens of jobs are valid."""
    agent_lease: int
    """Seconds; 0 = agents get no lease."""
    public_base: str
    artifacts_root: Path
    artifacts_base: str
    """Where agents reach the HTTP port, as it was said; empty when nobody said it."""
    artifacts_key: bytes | None
    artifacts_max_bytes: int
    """0 = any size."""
    artifacts_min_free: int
    """Bytes that uploads leave free; 0 = none."""
    cache_days: int
    """Days that a cache is kept which nobody reads; 0 = for ever."""
    approval_timeout: int | None
    """Seconds that gates wait by default; None = for ever."""
    log_months_ahead: int
    quotas: Quotas
    log_retention: int | None
    """Seconds; None = for ever."""
    log_archive: str
    """`auto`, `on` or `off`."""
    trusted_proxies: tuple[Network, ...] = ()
    runner_profiles_file: Path | None = None
    plugin_catalog_dir: str = ""
    """Colon-separated folders; see `gocdnext.plugins.catalogue.roots`."""
    webhook_public_url: str = ""
    github_app: GithubApp = field(default_factory=GithubApp)
    outbound: Policy = field(default_factory=Policy)
    """Whom the server may call, and through which proxy."""
    providers: tuple[SignInProvider, ...] = ()
    """Empty while authentication is off."""
    admin_emails: tuple[str, ...] = ()
    allowed_domains: tuple[str, ...] = ()
    """Without `@`; empty = all."""


def load(environ: Mapping[str, str] = os.environ, *, state_dir: Path | None = None) -> Settings:
    """The settings that `environ` describes; an empty variable counts as unset. Raises ConfigError."""
    read = _Reader(environ)
    http_addr = read.address("GOCDNEXT_HTTP_ADDR")
    state_dir = state_dir or _state_dir(read, environ)
    artifacts_root = read.text("GOCDNEXT_ARTIFACTS_FS_ROOT")
    auth_enabled = read.switch("GOCDNEXT_AUTH_ENABLED", unset=not is_loopback(http_addr[0]))
    return Settings(
        state_dir=state_dir,
        http_addr=http_addr,
        grpc_addr=read.address("GOCDNEXT_GRPC_ADDR"),
        database_url=read.text("GOCDNEXT_DATABASE_URL") or None,
        pg_bindir=Path(bindir) if (bindir := read.text("GOCDNEXT_PG_BINDIR")) else None,
        pool_size=read.number("GOCDNEXT_DATABASE_POOL", 2, 100),
        log_level=read.text("GOCDNEXT_LOG_LEVEL").lower(),
        auth_enabled=auth_enabled,
        providers=_providers(read) if auth_enabled else (),
        admin_emails=read.listed("GOCDNEXT_AUTH_ADMIN_EMAILS"),
        allowed_domains=tuple(each.removeprefix("@") for each in read.listed("GOCDNEXT_AUTH_ALLOWED_DOMAINS")),
        agent_registration_token=read.text("GOCDNEXT_AGENT_REGISTRATION_TOKEN") or None,
        secret_keys=read.keys("GOCDNEXT_SECRET_KEY"),
        public_base=read.base("GOCDNEXT_PUBLIC_BASE"),
        artifacts_root=Path(artifacts_root) if artifacts_root else state_dir / "artifacts",
        artifacts_base=read.base("GOCDNEXT_ARTIFACTS_PUBLIC_BASE") or read.base("GOCDNEXT_PUBLIC_BASE"),
        artifacts_key=read.key("GOCDNEXT_ARTIFACTS_SIGN_KEY"),
        artifacts_max_bytes=read.number("GOCDNEXT_ARTIFACTS_MAX_BODY_MB", 0, 100_000_000) * 2**20,
        artifacts_min_free=read.number("GOCDNEXT_ARTIFACTS_MIN_FREE_MB", 0, 100_000_000) * 2**20,
        cache_days=read.number("GOCDNEXT_CACHE_TTL_DAYS", 0, 36_500),
        secret_files=Path(files) if (files := read.text("GOCDNEXT_SECRET_FILES_DIR")) else None,
        credentials_directory=Path(given) if (given := environ.get("CREDENTIALS_DIRECTORY", "")) else None,
        secret_cache_ttl=read.window("GOCDNEXT_SECRET_CACHE_TTL", 1, 86_400) or 0,
        secret_fetch_timeout=read.span("GOCDNEXT_SECRET_FETCH_TIMEOUT", 1, 60),
        vault_enabled=read.switch("GOCDNEXT_SECRET_VAULT_ENABLED", unset=False),
        vault=_vault(read),
        oidc_token_ttl=read.span("GOCDNEXT_OIDC_TOKEN_TTL", 300, 86_400),
        agent_lease=read.window("GOCDNEXT_AGENT_LEASE", 1, 600) or 0,
        approval_timeout=read.window("GOCDNEXT_APPROVAL_DEFAULT_TIMEOUT", 60, 2160 * 3600),
        log_months_ahead=read.number("GOCDNEXT_LOG_MONTHS_AHEAD", 1, 24),
        runner_profiles_file=Path(file) if (file := read.text("GOCDNEXT_RUNNER_PROFILES_FILE")) else None,
        trusted_proxies=read.networks("GOCDNEXT_TRUSTED_PROXIES"),
        quotas=Quotas(
            keep_last=read.number("GOCDNEXT_ARTIFACTS_KEEP_LAST", 0, 1_000_000),
            project=read.size("GOCDNEXT_ARTIFACTS_PROJECT_QUOTA_BYTES"),
            everything=read.size("GOCDNEXT_ARTIFACTS_GLOBAL_QUOTA_BYTES"),
            project_caches=read.size("GOCDNEXT_CACHE_PROJECT_QUOTA_BYTES"),
            all_caches=read.size("GOCDNEXT_CACHE_GLOBAL_QUOTA_BYTES"),
        ),
        log_retention=read.window("GOCDNEXT_LOG_RETENTION", 24 * 3600, 87_600 * 3600),
        log_archive=read.choice("GOCDNEXT_LOG_ARCHIVE", ("auto", "on", "off")),
        plugin_catalog_dir=read.text("GOCDNEXT_PLUGIN_CATALOG_DIR"),
        webhook_public_url=read.base("GOCDNEXT_WEBHOOK_PUBLIC_URL"),
        github_app=_github_app(read),
        outbound=Policy(
            offline=read.switch("GOCDNEXT_OFFLINE", unset=False),
            allow=read.hosts("GOCDNEXT_OUTBOUND_ALLOW"),
            http_proxy=read.proxy("HTTP_PROXY"),
            https_proxy=read.proxy("HTTPS_PROXY"),
            no_proxy=read.hosts("NO_PROXY"),
        ),
    )


def _vault(read: _Reader) -> dict[str, str]:
    skip = read.switch("GOCDNEXT_SECRET_VAULT_SKIP_VERIFY", unset=False)
    names = ("addr", "kv_mount", "auth", "role", "role_id", "secret_id", "token", "jwt_path", "namespace")
    said = {name: read.text(f"GOCDNEXT_SECRET_VAULT_{name.upper()}") for name in names}
    said |= {"ca_cert": read.text("GOCDNEXT_SECRET_VAULT_CACERT"), "insecure_skip_verify": "true" if skip else ""}
    return {name: text for name, text in said.items() if text}


def is_loopback(host: str) -> bool:
    """Whether a listener on `host` can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def format_address(address: Address) -> str:
    """`host:port`, with brackets around an IPv6 host."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._defaults = {variable.name: variable.default for variable in VARIABLES}

    def text(self, name: str) -> str:
        return self._environ.get(name, "").strip() or self._defaults.get(name, "")

    def number(self, name: str, low: int, high: int) -> int:
        value = self.text(name)
        if not value.isascii() or not value.isdigit() or not low <= int(value[:10]) <= high:
            raise ConfigError(f"{name}={value!r}: expected a whole number from {low} to {high}")
        return int(value)

    def size(self, name: str) -> int:
        value = self.text(name)
        if not value.isascii() or not value.isdigit() or len(value) > 18:
            raise ConfigError(f"{name}={value!r}: expected a number of bytes, or 0")
        return int(value)

    def choice(self, name: str, words: tuple[str, ...]) -> str:
        value = self.text(name).lower()
        if value not in words:
            raise ConfigError(f"{name}={value!r}: expected {', '.join(words[:-1])} or {words[-1]}")
        return value

    def base(self, name: str) -> str:
        return self.text(name).rstrip("/")

    def key(self, name: str) -> bytes | None:
        value = self.text(name)
        if not value:
            return None
        # The value is a secret: the message does not repeat it.
        if len(value) < 32 or len(value) % 2 or not set(value) <= set(hexdigits):
            raise ConfigError(f"{name}: expected at least 32 hexadecimal digits, for example of `openssl rand -hex 32`")
        return bytes.fromhex(value)

    def switch(self, name: str, *, unset: bool) -> bool:
        value = self.text(name).lower()
        if not value:
            return unset
        if value not in ("true", "false"):
            raise ConfigError(f"{name}={value!r}: expected true or false")
        return value == "true"

    def keys(self, name: str) -> tuple[bytes, ...]:
        """Keys in hex, with commas between them. The message never repeats the value."""
        parts = [part.strip() for part in self.text(name).split(",") if part.strip()]
        if not all(_KEY.fullmatch(part) for part in parts):
            raise ConfigError(f"{name}: each key is 64 hex digits (32 bytes), with commas between several")
        return tuple(map(bytes.fromhex, parts))

    def networks(self, name: str) -> tuple[Network, ...]:
        """Addresses and networks with commas between them."""
        parts = [part.strip() for part in self.text(name).split(",") if part.strip()]
        try:
            return tuple(ipaddress.ip_network(part) for part in parts)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}; expected for example 10.0.0.7 or 10.0.0.0/24") from None

    def window(self, name: str, low: int, high: int) -> int | None:
        value = self.text(name).lower()
        if value in ("never", "off", "0"):
            return None
        seconds = go_duration(value)
        if seconds is None or seconds < 0:
            raise ConfigError(f"{name}={value!r}: expected a duration such as 168h, or never")
        return min(max(int(seconds), low), high)

    def listed(self, name: str) -> tuple[str, ...]:
        return tuple(found for part in self.text(name).split(",") if (found := part.strip()))

    def hosts(self, name: str) -> Hosts:
        """`NO_PROXY` is also known in small letters, and entries of it that we cannot read are somebody else's."""
        foreign = name == "NO_PROXY"
        text = self.text(name) or (self.text(name.lower()) if foreign else "")
        if foreign:
            text = ",".join(entry for entry in text.replace(",", " ").split() if _readable(entry))
        try:
            return Hosts.parse(text)
        except ValueError as error:
            raise ConfigError(
                f"{name}: {error} is neither a host, a domain like *.corp.example nor a network"
            ) from None

    def proxy(self, name: str) -> str:
        """The url of a proxy, also in small letters; it may hold a password, so the message does not repeat it."""
        value = self.text(name) or self.text(name.lower())
        if not value:
            return ""
        value = value if "://" in value else f"http://{value}"
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise ConfigError(f"{name}: expected the url of an HTTP proxy, for example http://proxy.example:3128")
        return value

    def span(self, name: str, low: int, high: int) -> int:
        """Seconds, kept within bounds; there is no "never"."""
        seconds = self.window(name, low, high)
        if seconds is None:
            raise ConfigError(f"{name}={self.text(name)!r}: expected a duration such as 1h")
        return seconds

    def address(self, name: str) -> Address:
        value = self.text(name)
        host, colon, port = value.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port[:6]) > 65535:
            raise ConfigError(f"{name}={value!r}: expected host:port, for example 127.0.0.1:8153 or :8153")
        return host.strip("[]") or "0.0.0.0", int(port)


_PROVIDERS: Final = (("github", "GitHub"), ("google", "Google"), ("keycloak", "Keycloak"), ("oidc", ""))


def _providers(read: _Reader) -> tuple[SignInProvider, ...]:
    """Those for which there is a client; half a client, or no address to come back to, is a mistake."""
    found = []
    for name, display in _PROVIDERS:
        prefix = f"GOCDNEXT_AUTH_{name.upper()}_"
        client_id, secret = read.text(f"{prefix}CLIENT_ID"), read.text(f"{prefix}CLIENT_SECRET")
        issuer = "" if name == "github" else read.text(f"{prefix}ISSUER")
        if not client_id and not secret:
            continue
        if not (client_id and secret and (issuer or name == "github")):
            needed = "_CLIENT_ID and _CLIENT_SECRET" + ("" if name == "github" else " and _ISSUER")
            raise ConfigError(f"{prefix.removesuffix('_')}: {needed} belong together; one of them is missing")
        found.append(
            SignInProvider(
                name=name,
                kind="github" if name == "github" else "oidc",
                display=display or read.text("GOCDNEXT_AUTH_OIDC_NAME"),
                client_id=client_id,
                client_secret=secret,
                issuer=issuer,
                github_api_base=read.base("GOCDNEXT_AUTH_GITHUB_API_BASE") if name == "github" else "",
            )
        )
    if found and not read.base("GOCDNEXT_PUBLIC_BASE").startswith(("https://", "http://")):
        raise ConfigError(
            f"GOCDNEXT_PUBLIC_BASE: sign-in by {found[0].name} needs the address that browsers reach this server by, such "
            "as https://ci.example.com"
        )
    return tuple(found)


def _github_app(read: _Reader) -> GithubApp:
    file = read.text("GOCDNEXT_GITHUB_APP_PRIVATE_KEY_FILE")
    return GithubApp(
        read.number("GOCDNEXT_GITHUB_APP_ID", 0, 2**31 - 1),
        read.text("GOCDNEXT_GITHUB_APP_PRIVATE_KEY"),
        Path(file) if file else None,
        read.base("GOCDNEXT_GITHUB_APP_API_BASE"),
        read.text("GOCDNEXT_GITHUB_APP_WEBHOOK_SECRET"),
    )


def _readable(entry: str) -> bool:
    try:
        Hosts.parse(entry)
    except ValueError:
        return False
    return True


def _state_dir(read: _Reader, environ: Mapping[str, str]) -> Path:
    said = read.text("GOCDNEXT_STATE_DIR") or environ.get("STATE_DIRECTORY", "").split(":")[0]
    if said:
        return Path(said)
    if os.geteuid() == 0:
        return Path("/var/lib/gocdnext")
    home = environ.get("XDG_STATE_HOME") or (f"{environ['HOME']}/.local/state" if environ.get("HOME") else "")
    if not home:
        raise ConfigError("no state directory: HOME is not set; say `serve --state DIR` or set GOCDNEXT_STATE_DIR")
    return Path(home) / "gocdnext"
