"""From the environment to the settings, once, at start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gocdnext.config.reader import ConfigError, Reader
from gocdnext.config.settings import S3, GithubApp, Quotas, Settings, SignInProvider, is_loopback
from gocdnext.outbound.policy import Policy

_PROVIDERS: Final = (("github", "GitHub"), ("google", "Google"), ("keycloak", "Keycloak"), ("oidc", ""))


def load(environ: Mapping[str, str] = os.environ, *, state_dir: Path | None = None) -> Settings:
    """The settings that `environ` describes; an empty variable counts as unset. Raises ConfigError."""
    read = Reader(environ)
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
        artifacts_s3=_s3(read, environ),
        artifacts_base=read.base("GOCDNEXT_ARTIFACTS_PUBLIC_BASE") or read.base("GOCDNEXT_PUBLIC_BASE"),
        artifacts_key=read.key("GOCDNEXT_ARTIFACTS_SIGN_KEY"),
        artifacts_max_bytes=read.number("GOCDNEXT_ARTIFACTS_MAX_BODY_MB", 0, 100_000_000) * 2**20,
        artifacts_min_free=read.number("GOCDNEXT_ARTIFACTS_MIN_FREE_MB", 0, 100_000_000) * 2**20,
        disk_min_free=read.number("GOCDNEXT_DISK_MIN_FREE_MB", 0, 100_000_000) * 2**20,
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
        dump_before_migration=read.switch("GOCDNEXT_DUMP_BEFORE_MIGRATION", unset=True),
        runner_profiles_file=Path(file) if (file := read.text("GOCDNEXT_RUNNER_PROFILES_FILE")) else None,
        trusted_proxies=read.networks("GOCDNEXT_TRUSTED_PROXIES"),
        quotas=Quotas(
            keep_last=read.number("GOCDNEXT_ARTIFACTS_KEEP_LAST", 0, 1_000_000),
            keep_newest=read.number("GOCDNEXT_ARTIFACTS_KEEP_NEWEST", 0, 1_000_000),
            project=read.size("GOCDNEXT_ARTIFACTS_PROJECT_QUOTA_BYTES"),
            everything=read.size("GOCDNEXT_ARTIFACTS_GLOBAL_QUOTA_BYTES"),
            project_caches=read.size("GOCDNEXT_CACHE_PROJECT_QUOTA_BYTES"),
            all_caches=read.size("GOCDNEXT_CACHE_GLOBAL_QUOTA_BYTES"),
        ),
        log_retention=read.window("GOCDNEXT_LOG_RETENTION", 24 * 3600, 87_600 * 3600),
        log_archive=read.choice("GOCDNEXT_LOG_ARCHIVE", ("auto", "on", "off")),
        log_archive_cache=read.size("GOCDNEXT_LOG_ARCHIVE_CACHE_BYTES"),
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


def _s3(read: Reader, environ: Mapping[str, str]) -> S3 | None:
    prefix = "GOCDNEXT_ARTIFACTS_S3_"
    backend = read.text("GOCDNEXT_ARTIFACTS_BACKEND").lower()
    if backend == "gcs":
        raise ConfigError(
            "GOCDNEXT_ARTIFACTS_BACKEND='gcs': this version reaches Google Cloud Storage as s3, with "
            f"{prefix}ENDPOINT=https://storage.googleapis.com and an HMAC key"
        )
    if read.choice("GOCDNEXT_ARTIFACTS_BACKEND", ("filesystem", "s3")) == "filesystem":
        return None
    access, secret, token = read.text(f"{prefix}ACCESS_KEY"), read.text(f"{prefix}SECRET_KEY"), ""
    if not access and not secret:
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        access, secret, token = (environ.get(name, "").strip() for name in names)
    if not (access and secret and read.text(f"{prefix}BUCKET")):
        raise ConfigError(
            f"GOCDNEXT_ARTIFACTS_BACKEND=s3 needs {prefix}BUCKET, {prefix}ACCESS_KEY and {prefix}SECRET_KEY"
        )
    return S3(
        bucket=read.text(f"{prefix}BUCKET"),
        region=read.text(f"{prefix}REGION"),
        endpoint=read.base(f"{prefix}ENDPOINT"),
        access_key=access,
        secret_key=secret,
        session_token=token,
        use_path_style=read.switch(f"{prefix}USE_PATH_STYLE", unset=False),
        ensure_bucket=read.switch(f"{prefix}ENSURE_BUCKET", unset=False),
        direct=read.switch(f"{prefix}DIRECT", unset=True),
    )


def _vault(read: Reader) -> dict[str, str]:
    skip = read.switch("GOCDNEXT_SECRET_VAULT_SKIP_VERIFY", unset=False)
    names = ("addr", "kv_mount", "auth", "role", "role_id", "secret_id", "token", "jwt_path", "namespace")
    said = {name: read.text(f"GOCDNEXT_SECRET_VAULT_{name.upper()}") for name in names}
    said |= {"ca_cert": read.text("GOCDNEXT_SECRET_VAULT_CACERT"), "insecure_skip_verify": "true" if skip else ""}
    return {name: text for name, text in said.items() if text}


def _providers(read: Reader) -> tuple[SignInProvider, ...]:
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


def _github_app(read: Reader) -> GithubApp:
    file = read.text("GOCDNEXT_GITHUB_APP_PRIVATE_KEY_FILE")
    return GithubApp(
        read.number("GOCDNEXT_GITHUB_APP_ID", 0, 2**31 - 1),
        read.text("GOCDNEXT_GITHUB_APP_PRIVATE_KEY"),
        Path(file) if file else None,
        read.base("GOCDNEXT_GITHUB_APP_API_BASE"),
        read.text("GOCDNEXT_GITHUB_APP_WEBHOOK_SECRET"),
    )


def _state_dir(read: Reader, environ: Mapping[str, str]) -> Path:
    said = read.text("GOCDNEXT_STATE_DIR") or environ.get("STATE_DIRECTORY", "").split(":")[0]
    if said:
        return Path(said)
    if os.geteuid() == 0:
        return Path("/var/lib/gocdnext")
    home = environ.get("XDG_STATE_HOME") or (f"{environ['HOME']}/.local/state" if environ.get("HOME") else "")
    if not home:
        raise ConfigError("no state directory: HOME is not set; say `serve --state DIR` or set GOCDNEXT_STATE_DIR")
    return Path(home) / "gocdnext"
