"""Creates a git tag and pushes it."""

import os

import kit

# git asks this helper for credentials; the shell reads them from the environment, so that they are in no argument.
HELPER = '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$TAG_USERNAME" "$TAG_TOKEN"; }; f'


def work() -> None:
    name = kit.needed("name")
    message = kit.block("message")
    revision = kit.text("revision", "HEAD")
    remote = kit.text("remote", "origin")
    username = kit.text("username", "x-access-token")
    token = kit.needed_secret("token")
    force = kit.flag("force", False)
    for value, input_name in ((name, "name"), (revision, "revision"), (remote, "remote")):
        if value.startswith("-"):
            raise kit.InputError(f"`{input_name}` must not begin with a dash")
    check_name(name)
    commit = commit_of(revision)
    access = {"TAG_USERNAME": username, "TAG_TOKEN": token}
    if create(name, message, commit, force):
        kit.say(f"tagged {commit[:12]} as {name}")
    else:
        kit.say(f"the tag {name} is on {commit[:12]} already")
    reference = f"refs/tags/{name}"
    refspec = f"+{reference}:{reference}" if force else f"{reference}:{reference}"
    git_with_token(access, "push", "--quiet", remote, refspec)
    kit.say(f"pushed {name}")


def check_name(name: str) -> None:
    try:
        kit.git("check-ref-format", f"refs/tags/{name}")
    except kit.FailedError:
        raise kit.InputError(f"`name` is {kit.shown(name)}, which git does not allow as the name of a tag") from None


def commit_of(revision: str) -> str:
    try:
        return kit.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    except kit.FailedError:
        raise kit.InputError(f"`revision` is {kit.shown(revision)}, and there is no such commit here") from None


def create(name: str, message: str, commit: str, force: bool) -> bool:
    """Whether the tag was made; it stands already when this is a second attempt."""
    old = kit.git("for-each-ref", "--format=%(objectname) %(*objectname)", f"refs/tags/{name}").split()
    if old and old[-1] == commit and not force:
        return False
    if old and not force:
        raise kit.FailedError(
            f"the tag {name} exists and is on {old[-1][:12]}, not on {commit[:12]}; choose another name, or set `force`"
        )
    kind = ["--annotate", "--message", message] if message else []
    kit.git("tag", *kind, *(["--force"] if force else []), "--", name, commit, env=identity())
    return True


def identity() -> dict[str, str]:
    """Who makes an annotated tag, where git does not know it from its configuration."""
    try:
        kit.git("var", "GIT_COMMITTER_IDENT")
    except kit.FailedError:
        who = os.environ.get("CI_PROJECT_SLUG", "") or "gocdnext"
        return {"GIT_COMMITTER_NAME": "gocdnext", "GIT_COMMITTER_EMAIL": f"{who}@gocdnext.invalid"}
    return {}


def git_with_token(access: dict[str, str], *arguments: str) -> None:
    try:
        kit.git("-c", "credential.helper=", "-c", f"credential.helper={HELPER}", *arguments, env=access)
    except kit.FailedError as error:
        hint = ""
        if "Authentication failed" in str(error) or "403" in str(error):
            hint = "; the token must be allowed to push to this repository"
        elif "already exists" in str(error) or "rejected" in str(error):
            hint = "; the remote has this tag on another commit: choose another name, or set `force`"
        raise kit.FailedError(f"{error}{hint}", error.code) from None


if __name__ == "__main__":
    kit.main(work)
