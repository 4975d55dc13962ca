"""`doctor bundle` where secrets lie everywhere: none of them is in the archive, and what a bug report needs is."""

from __future__ import annotations

import json
import stat
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trio

from gocdnext.db.statedir import open_state
from gocdnext.doctor import bundle, rounds
from tests.postgres_fixture import PostgresServer

PLANTED = {
    "url password": "Tr0ub4dor",
    "secret key": "0123456789abcdef" * 4,
    "sign key": "fedcba98" * 8,
    "registration": "letmein-agents",
    "github app": "MIIEpAIBAAKCAQEA7",
    "aws": "wJalrXUtnFEMI/K7MDENG",
    "proxy": "proxypass",
    "vault": "hvs.plantedtoken",
    "oauth": "oauth-planted-secret",
    "cli token": "gnk_planted",
    "in the database": "stored-in-a-row",
    "setup code": "ABCD-2345",
    "bearer in the log": "bearerplanted",
    "password in the log": "logplanted",
    "url in the log": "urlplanted",
    "statement in the log": "statementplanted",
    "several lines in the log": "multilineplanted",
    "random in the log": "a8f5f167f44f4964e6c998dee827110c",
    "typo": "typoplanted",
}


@pytest.fixture
def metrics_url() -> Iterator[str]:
    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/metrics"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(b'gocdnext_queue_depth{stage="queued"} 3.0\n' if found else b"{}")

        def log_message(self, *words: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def environment(database_url: str) -> dict[str, str]:
    return {
        "GOCDNEXT_DATABASE_URL": database_url.replace("ci@", f"ci:{PLANTED['url password']}@"),
        "GOCDNEXT_SECRET_KEY": PLANTED["secret key"],
        "GOCDNEXT_ARTIFACTS_SIGN_KEY": PLANTED["sign key"],
        "GOCDNEXT_AGENT_REGISTRATION_TOKEN": PLANTED["registration"],
        "GOCDNEXT_GITHUB_APP_PRIVATE_KEY": f"-----BEGIN RSA PRIVATE KEY-----\\n{PLANTED['github app']}\\n-----END-----",
        "GOCDNEXT_SECRET_VAULT_TOKEN": PLANTED["vault"],
        "GOCDNEXT_AUTH_OIDC_CLIENT_SECRET": PLANTED["oauth"],
        "GOCDNEXT_PUBLIC_BASE": f"http://x:{PLANTED['url password']}@127.0.0.1:9/ci",
        "GOCDNEXT_DATABSE_URL": f"postgresql://ci:{PLANTED['typo']}@db/ci",
        "GOCDNEXT_LOG_LEVEL": "debug",
        "AWS_SECRET_ACCESS_KEY": PLANTED["aws"],
        "HTTPS_PROXY": f"http://user:{PLANTED['proxy']}@127.0.0.1:9",
    }


def logs() -> tuple[str, str]:
    """Of the server, and of PostgreSQL."""
    events = [
        {"event": "there is no admin yet", "setup_code": PLANTED["setup code"], "level": "info"},
        {"event": "call failed", "error": f"Authorization: Bearer {PLANTED['bearer in the log']}", "run_id": "r-1"},
        {"event": f"password={PLANTED['password in the log']}", "request_id": "0f" * 16},
        {"event": "clone", "url": f"https://u:{PLANTED['url in the log']}@github.com/a/b"},
        {"event": f"it said {PLANTED['random in the log']}", "why": PLANTED["registration"]},
    ]
    server = "".join(json.dumps(event) + "\n" for event in events) + f"Traceback: {PLANTED['vault']} was refused\n"
    postgres = (
        "2026-11-24 22:00:00 UTC [1] ERROR:  duplicate key value\n"
        f"2026-11-24 22:00:00 UTC [1] STATEMENT:  INSERT INTO x VALUES ('{PLANTED['statement in the log']}',\n"
        f"\t'{PLANTED['several lines in the log']}')\n"
        "2026-11-24 22:00:01 UTC [1] LOG:  checkpoint complete\n"
    )
    return server, postgres


async def test_no_secret_leaves_the_house(
    database_url: str, postgres_server: PostgresServer, metrics_url: str, tmp_path: Path
) -> None:
    name = database_url.removeprefix("postgresql://ci@/").partition("?")[0]
    row = "INSERT INTO projects VALUES (gen_random_uuid(), 'a', 'a', '{}', '.gocdnext', '[]', now(), now())"
    await trio.to_thread.run_sync(postgres_server.execute, row.format(PLANTED["in the database"]), name)
    server_log, postgres_log = logs()
    (tmp_path / "server.log").write_text(server_log)
    with open_state(tmp_path / "state") as state:
        keys = [state.ensure_key(each).hex() for each in ("secrets", "operator-token")]
        (state.log / "postgres.log").write_text(postgres_log)
    asked = rounds.Asked(tmp_path / "state", environment(database_url), metrics_url, PLANTED["cli token"])
    found = await rounds.look(asked)
    names = bundle.write(tmp_path / "report.tar.gz", asked, found, tmp_path / "server.log")

    assert stat.S_IMODE((tmp_path / "report.tar.gz").stat().st_mode) == 0o600
    with tarfile.open(tmp_path / "report.tar.gz") as archive:
        read = {each.name.rpartition("/")[2]: archive.extractfile(each).read().decode() for each in archive}  # type: ignore[union-attr]
    assert list(read) == names
    everything = "\n".join(read.values())
    left = {what for what, value in PLANTED.items() if value in everything}
    assert left == set()
    assert not any(key in everything for key in keys)

    settings = json.loads(read["settings.json"])
    assert settings["GOCDNEXT_SECRET_KEY"] == "(set)"
    assert settings["GOCDNEXT_LOG_LEVEL"] == "debug"
    assert settings["GOCDNEXT_PUBLIC_BASE"] == "http://127.0.0.1:9/ci"
    findings = {each["name"]: each for each in json.loads(read["findings.json"])}
    assert findings["durability"]["status"] == "fail"
    assert json.loads(read["versions.json"])["schema"] >= 17
    assert "projects" in {each["name"] for each in json.loads(read["tables.json"])}
    assert "gocdnext_queue_depth" in read["metrics.txt"]
    assert "0f" * 16 in read["server.log"]  # ids are what one looks for
    assert "r-1" in read["server.log"]
    assert "checkpoint complete" in read["postgres.log"]


async def test_a_bundle_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    asked = rounds.Asked(tmp_path / "state", {"GOCDNEXT_DATABASE_POOL": "many"}, "http://127.0.0.1:9", None, False)
    found = await rounds.look(asked)
    assert found.ground is None
    with pytest.raises(FileExistsError):
        bundle.write(tmp_path / "there", asked, found, None)
    assert (tmp_path / "there").read_text() == "mine"
    # Also without settings that can be read there is something to send.
    assert "findings.json" in bundle.write(tmp_path / "new", asked, found, None)
