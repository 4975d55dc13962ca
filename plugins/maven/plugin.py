"""Runs mvn, on request with generated settings for a repository manager."""

import os
import re
from pathlib import Path
from xml.sax.saxutils import escape

import kit
import kit_http

JVMS = Path("/usr/lib/jvm")
# The password is not in the file: Maven reads it from the environment.
SERVER = (
    "<server><id>{}</id><username>${{env.MAVEN_PLUGIN_USERNAME}}</username>"
    "<password>${{env.MAVEN_PLUGIN_PASSWORD}}</password></server>"
)
SETTINGS = """\
<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0">
  <servers>{servers}</servers>
  <mirrors><mirror><id>nexus</id><mirrorOf>*</mirrorOf><url>{url}</url></mirror></mirrors>
</settings>
"""


def work() -> int:
    command = kit.needed("command").split()
    options = ["--batch-mode", f"-Dstyle.color={'always' if kit.flag('color', True) else 'never'}"]
    if parallel := kit.text("parallel"):
        if not re.fullmatch(r"[0-9]{1,4}(\.[0-9])?C?", parallel):
            raise kit.InputError(f"`parallel` is {kit.shown(parallel)}; write a number of threads such as 4, or 1C")
        options += ["--threads", parallel]
    if kit.text("build-cache"):
        options.append(f"-Dmaven.build.cache.enabled={'true' if kit.flag('build-cache', True) else 'false'}")
    if not any(word.startswith("-Dmaven.repo.local=") for word in command):
        options.append(f"-Dmaven.repo.local={Path.cwd() / '.m2' / 'repository'}")
    env = {"MAVEN_OPTS": opts} if (opts := kit.text("maven-opts")) else {}
    if version := kit.text("jdk"):
        env["JAVA_HOME"] = java_home(version)
    settings = kit.text("settings")
    url = kit_http.address("nexus-url") if kit.text("nexus-url") else ""
    if settings and url:
        raise kit.InputError("`settings` and `nexus-url` exclude each other: put the repository into the settings")
    if settings and not Path(settings).is_file():
        raise kit.InputError(f"`settings` is {kit.shown(settings)}, and that is no file")
    if settings:
        options += ["--settings", str(Path(settings).absolute())]
    username, password = kit.text("nexus-username"), kit.secret("nexus-password")
    repositories = [kit.text("snapshot-repo-id", "snapshots"), kit.text("release-repo-id", "releases")]
    kit.enter()
    mvn = kit.program("mvn", "install Maven")
    if url:
        text = generated(url, repositories if username else [], bool(username))
        options += ["--settings", kit.memory_file(text)]
        env |= {"MAVEN_PLUGIN_USERNAME": username, "MAVEN_PLUGIN_PASSWORD": password}
    return kit.run([mvn, *options, *command], env)


def generated(url: str, repositories: list[str], sign_in: bool) -> str:
    """Settings that fetch everything through one repository and know how to sign in where it is needed."""
    ids = ["nexus", *repositories] if sign_in else []
    return SETTINGS.format(servers="".join(SERVER.format(escape(name)) for name in ids), url=escape(url))


def java_home(version: str) -> str:
    """The folder of an installed Java of that version. Raises FailedError."""
    if not re.fullmatch(r"[0-9]{1,3}", version):
        raise kit.InputError(f"`jdk` is {kit.shown(version)}; write a version such as 21")
    own = [Path(home)] if (home := os.environ.get("JAVA_HOME")) else []
    found: dict[str, str] = {}
    for folder in [*own, *(sorted(JVMS.iterdir()) if JVMS.is_dir() else [])]:
        release = folder / "release"
        if release.is_file() and (
            match := re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release.read_text(), re.MULTILINE)
        ):
            found.setdefault(match[1], str(folder))
    if version not in found:
        there = ", ".join(sorted(found, key=int)) or "none"
        raise kit.FailedError(
            f"there is no Java {version} on this machine (found: {there}); install it, or leave `jdk` out"
        )
    return found[version]


if __name__ == "__main__":
    kit.main(work)
