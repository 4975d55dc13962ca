"""Every setting of the server as one table of `GOCDNEXT_*` variables; the documentation page is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


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
    Variable(
        "GOCDNEXT_DUMP_BEFORE_MIGRATION",
        "true or false",
        "true",
        "Dump the embedded database into `dumps/` of the state directory before its schema is changed.",
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
        "GOCDNEXT_ARTIFACTS_BACKEND",
        "word",
        "filesystem",
        "Where artifacts, caches and archived logs are kept: filesystem, or s3 for a bucket of an S3-compatible store.",
    ),
    Variable("GOCDNEXT_ARTIFACTS_S3_BUCKET", "text", "", "The bucket; it belongs to this database alone."),
    Variable("GOCDNEXT_ARTIFACTS_S3_REGION", "text", "us-east-1", "The region of the bucket."),
    Variable(
        "GOCDNEXT_ARTIFACTS_S3_ENDPOINT",
        "url",
        "",
        "The address of the store, such as `https://s3.example.com`. Empty: AWS. An address inside the network has to be in "
        "`GOCDNEXT_OUTBOUND_ALLOW`.",
    ),
    Variable(
        "GOCDNEXT_ARTIFACTS_S3_ACCESS_KEY",
        "secret",
        "",
        "The key of the store. Empty, with the secret key: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and "
        "`AWS_SESSION_TOKEN` of the server's environment.",
    ),
    Variable("GOCDNEXT_ARTIFACTS_S3_SECRET_KEY", "secret", "", "The secret that belongs to it."),
    Variable(
        "GOCDNEXT_ARTIFACTS_S3_USE_PATH_STYLE",
        "true or false",
        "false",
        "The bucket is in the path of addresses instead of before the host: for most stores that are not AWS.",
    ),
    Variable(
        "GOCDNEXT_ARTIFACTS_S3_ENSURE_BUCKET",
        "true or false",
        "false",
        "A bucket that is not there is created at start.",
    ),
    Variable(
        "GOCDNEXT_ARTIFACTS_S3_DIRECT",
        "true or false",
        "true",
        "Agents and people get links into the store. false: everything goes through this server, for those who cannot "
        "reach the store.",
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
    Variable(
        "GOCDNEXT_DISK_MIN_FREE_MB",
        "number",
        "256",
        "No job is started while less than this is free on the disk of the artifacts or of the state directory, in MiB; below "
        "half of it, log lines wait with their agents when the embedded database is there. 0 is no such limit.",
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
        "GOCDNEXT_ARTIFACTS_KEEP_NEWEST",
        "number",
        "3",
        "The newest runs of each pipeline whose artifacts no quota takes, and no time either unless their job says "
        "`expire_in`; the same goes for the runs that started them. 0 is none.",
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
        "GOCDNEXT_LOG_ARCHIVE_CACHE_BYTES",
        "number",
        "16777216",
        "Bytes of memory for what was read of archived logs lately; 0 keeps nothing.",
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
