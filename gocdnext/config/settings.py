"""The settings of a server as frozen values. Nothing here reads anything."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gocdnext.outbound.policy import Policy

Address = tuple[str, int]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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
    keep_newest: int = 0
    """Runs of each pipeline, the newest, whose artifacts no quota takes; and no time that their job did not say."""
    project: int = 0
    """Bytes of artifacts of one project."""
    everything: int = 0
    """Bytes of all artifacts."""
    project_caches: int = 0
    """Bytes of caches of one project."""
    all_caches: int = 0
    """Bytes of all caches."""


@dataclass(frozen=True, slots=True)
class S3:
    """The bucket that the environment names, and the key it is used with."""

    bucket: str
    region: str
    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    use_path_style: bool = False
    ensure_bucket: bool = False
    direct: bool = True


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
    disk_min_free: int
    """Bytes of a disk below which no job is started; 0 = whatever is free."""
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
    log_archive_cache: int
    """Bytes of archived logs that are kept in memory."""
    dump_before_migration: bool = True
    """Whether the embedded database is dumped before its schema is changed."""
    artifacts_s3: S3 | None = None
    """None: files below `artifacts_root`."""
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
