"""How a material is recognised: SHA-256 over its kind and its essentials (spec-pipelines 9.1).

The fingerprint is the only link between an incoming event and the pipelines that wait for it, so the normal form of a
git url has to swallow every harmless difference in spelling, and credentials with it.
"""

from __future__ import annotations

import hashlib

_BLANKS = " \t\r\n"


def normal_git_url(url: str) -> str:
    """`host/path` of a git url: no scheme, user, password, final slash or `.git`; the host in lower case.

    What is neither `git@HOST:PATH` nor `scheme://…` stays as it is, without final slashes and `.git`.
    """
    text = url.strip(_BLANKS).rstrip("/").removesuffix(".git")
    if text.startswith("git@"):
        host, colon, path = text.removeprefix("git@").partition(":")
        if not colon:
            return text.lower()
        return f"{host.lower()}/{path.lstrip('/')}"
    scheme, separator, rest = text.partition("://")
    if not separator or not scheme:
        return text
    authority, slash, path = rest.partition("/")
    return authority.rpartition("@")[2].lower() + slash + path


def git_fingerprint(url: str, branch: str) -> str:
    """Fingerprint of a branch of a repository, in lower-case hex."""
    return _digest(normal_git_url(url), branch)


def upstream(pipeline: str, stage: str) -> str:
    """Fingerprint of a stage of another pipeline of the project."""
    return _digest("upstream", pipeline, stage)


def cron(expression: str) -> str:
    """Fingerprint of a cron expression, as written."""
    return _digest("cron", expression)


def manual() -> str:
    """Fingerprint of the manual material; a pipeline has at most one."""
    return _digest("manual")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
