"""Copies files to a host with rsync, or runs a script there, or both."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import kit

ASKPASS = "#!/bin/sh\nprintf '%s\\n' \"$GOCDNEXT_SSH_PASSWORD\"\n"
# Read whole before anything of it runs, so that the commands of the script find no script on their standard input.
SCRIPT = "set -eu\nif (set -o pipefail) 2>/dev/null; then set -o pipefail; fi\n{{\n{}\n}} </dev/null\n"
CHECKS = ("yes", "accept-new", "no")
CANNOT_CONNECT = 255
"""The exit code of ssh itself."""


def work() -> None:
    host, user = name("host"), name("user")
    port = kit.number("port", 22, 1, 65535)
    kit.enter()
    upload, target = kit.text("upload"), kit.text("target")
    options = kit.text("rsync_opts", "-az --delete").split()
    script = kit.block("script")
    if not upload and not script:
        raise kit.InputError("there is nothing to do: `upload` and `script` are both empty")
    if upload and not target:
        raise kit.InputError("`target` is missing: where on the host `upload` goes to")
    if upload and not Path(upload).exists():
        raise kit.InputError(f"`upload` is {kit.shown(upload)}, and that is not there")
    command, env = connection(host, port)
    if upload:
        code = copy(command, env, options, upload, f"{user}@{bracketed(host)}:{target}")
        if code != 0:
            raise kit.FailedError(f"rsync ended with {code}", code)
        kit.say(f"{upload} is on {host} as {target}")
    if script:
        code = run(command, env, f"{user}@{host}", script)
        if code == CANNOT_CONNECT:
            raise kit.FailedError(f"no session on {host}, or the script ended with {code}", code)
        if code != 0:
            raise kit.FailedError(f"the script ended with {code}", code)


def name(which: str) -> str:
    """An input that becomes part of an address."""
    value = kit.needed(which)
    if not re.fullmatch(r"[A-Za-z0-9_.:%+~][A-Za-z0-9_.:%+~-]*", value):
        raise kit.InputError(f"`{which}` is {kit.shown(value)}, which is no name")
    return value


def connection(host: str, port: int) -> tuple[list[str], dict[str, str]]:
    """The ssh command up to the host, and its variables. The key is in a file in memory, the password in a variable."""
    ssh = kit.program("ssh", "install openssh-client")
    key, password = kit.hide(kit.block("key")), kit.secret("password")
    if not key and not password:
        raise kit.InputError("`key` and `password` are both empty; one of them is needed")
    check, known = host_keys(host, port)
    settings = [
        "ConnectTimeout=20",
        "ConnectionAttempts=3",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
        "LogLevel=ERROR",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        f"StrictHostKeyChecking={check}",
        f"UserKnownHostsFile={known}",
        "GlobalKnownHostsFile=none",
        "UpdateHostKeys=no",
        f"PubkeyAuthentication={'yes' if key else 'no'}",
        f"BatchMode={'no' if password else 'yes'}",
        "NumberOfPasswordPrompts=1",
    ]
    command = [ssh, "-F", "none", "-p", str(port)]
    for setting in settings:
        command += ["-o", setting]
    env: dict[str, str] = {}
    if key:
        text = key.replace("\r\n", "\n").strip() + "\n"
        command += ["-i", kit.memory_file(text)]
    if password:
        env["GOCDNEXT_SSH_PASSWORD"] = password
        env |= {"SSH_ASKPASS": kit.memory_file(ASKPASS, 0o700), "SSH_ASKPASS_REQUIRE": "force"}
    return command, env


def host_keys(host: str, port: int) -> tuple[str, str]:
    """How strictly keys are checked, and the file of those that are known."""
    check = kit.choice("host_key_check", CHECKS, "yes")
    lines = kit.block("known_hosts").replace("\r\n", "\n").splitlines()
    host_key = kit.text("host_key")
    if host_key:
        where = host if port == 22 else f"[{host}]:{port}"
        lines.append(f"{where} {' '.join(host_key.split()[:2])}")
    if check == "yes" and not lines:
        raise kit.InputError(
            "the host's key is not known: set `known_hosts` to what `ssh-keyscan` prints for the host, or `host_key`"
        )
    return check, kit.memory_file("".join(f"{line}\n" for line in lines))


def copy(ssh: list[str], env: dict[str, str], options: list[str], upload: str, target: str) -> int:
    rsync = kit.program("rsync", "install rsync here and on the host")
    # A colon before the first slash would make it the name of another host, a dash an option.
    source = upload if upload.startswith("/") else f"./{upload}"
    return kit.run([rsync, *options, "--", source, target], {**env, "RSYNC_RSH": shlex.join(ssh)})


def run(ssh: list[str], env: dict[str, str], place: str, script: str) -> int:
    """The exit code of the script. It goes over standard input: arguments can be seen by others on both machines."""
    command = [*ssh, "-T", place, "sh -s"]
    done = subprocess.run(command, input=SCRIPT.format(script).encode(), env={**os.environ, **env}, check=False)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def bracketed(host: str) -> str:
    """The host as rsync wants it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


if __name__ == "__main__":
    kit.main(work)
