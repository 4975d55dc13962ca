"""Which of the agent's own environment others get to see: jobs a short list of names, git all but our own variables."""

from __future__ import annotations

import os
from collections.abc import Mapping

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_JOB_NAMES = frozenset(
    (
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "TERM",
        "TMPDIR",
        "TZ",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    )
)


def for_jobs(agent: Mapping[str, str] | None = None) -> dict[str, str]:
    """The base under a job's own variables: where programs, home, locale, certificates and proxies are, and no more.

    The agent's token and whatever else its unit file sets never reach a job (design decision 15).
    """
    agent = os.environ if agent is None else agent
    base = {name: value for name, value in agent.items() if name in _JOB_NAMES or name.startswith("LC_")}
    return {"PATH": _PATH, "TERM": "dumb", **base}


def for_git(agent: Mapping[str, str] | None = None) -> dict[str, str]:
    """What git runs with when the agent itself checks out: ssh agents, proxies and helpers stay, questions are off."""
    agent = os.environ if agent is None else agent
    base = {name: value for name, value in agent.items() if not name.startswith("GOCDNEXT_") and _git_may_see(name)}
    return {
        "PATH": _PATH,
        **base,
        "LC_ALL": "C",  # its messages are read
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_SSH_COMMAND": agent.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
    }


def _git_may_see(name: str) -> bool:
    """How to reach servers, yes; which repository to work on, or what to trace, no."""
    return not name.startswith("GIT_") or name.startswith(("GIT_SSL_", "GIT_SSH", "GIT_PROXY_", "GIT_HTTP_"))
