"""What the actions that nearly every workflow uses become here. A table by name; everything else is noted.

An action is somebody else's program for GitHub's runner, so only those are translated whose effect is a few lines of
shell or a key of ours.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from gocdnext.importers.conditions import shell, unknown
from gocdnext.importers.draft import Job
from gocdnext.importers.github_context import EXPRESSION, Scope
from gocdnext.importers.reading import Part
from gocdnext.pipeline.job_parts import cache_key_flaw
from gocdnext.pipeline.problems import quoted

_VERSION = re.compile(r"v?(\d+(?:\.\d+)*)(?:\.x)?")
_HASH_FILES = re.compile(r"^\s*hashFiles\(\s*('[^']*'(?:\s*,\s*'[^']*')*)\s*\)\s*$")
# Image and the key of the version, for actions that install a language.
_IMAGES = {
    "actions/setup-python": ("python", "python-version"),
    "actions/setup-node": ("node", "node-version"),
    "actions/setup-go": ("golang", "go-version"),
    "actions/setup-java": ("eclipse-temurin", "java-version"),
    "ruby/setup-ruby": ("ruby", "ruby-version"),
    "oven-sh/setup-bun": ("oven/bun", "bun-version"),
    "denoland/setup-deno": ("denoland/deno", "deno-version"),
    "dtolnay/rust-toolchain": ("rust", "toolchain"),
}
_LOCKS = {"npm": ("package-lock.json", "~/.npm"), "yarn": ("yarn.lock", "~/.cache/yarn"),
          "pnpm": ("pnpm-lock.yaml", "~/.pnpm-store"), "bundler": ("Gemfile.lock", "vendor/bundle")}  # fmt: skip
# Folders in the home directory, and the variable that moves them into the workspace, where caches are kept.
_MOVED = {
    "~/.cache/pip": ("PIP_CACHE_DIR", ".cache/pip"),
    "~/.cache/uv": ("UV_CACHE_DIR", ".cache/uv"),
    "~/.cache/pypoetry": ("POETRY_CACHE_DIR", ".cache/pypoetry"),
    "~/.cache/pre-commit": ("PRE_COMMIT_HOME", ".cache/pre-commit"),
    "~/.npm": ("npm_config_cache", ".cache/npm"),
    "~/.cache/yarn": ("YARN_CACHE_FOLDER", ".cache/yarn"),
    "~/.pnpm-store": ("npm_config_store_dir", ".cache/pnpm"),
    "~/go/pkg/mod": ("GOMODCACHE", ".cache/go-mod"),
    "~/.cache/go-build": ("GOCACHE", ".cache/go-build"),
    "~/.cargo": ("CARGO_HOME", ".cache/cargo"),
    "~/.gradle/caches": ("GRADLE_USER_HOME", ".cache/gradle"),
}


@dataclass
class Upload:
    """Artifacts under a name; `job` made them."""

    job: Job
    paths: list[str]


@dataclass
class Download:
    job: Job
    name: str
    path: str
    line: int


@dataclass
class Actions:
    """What the actions of a workflow left to be connected when all jobs are known."""

    uploads: dict[str, list[Upload]] = field(default_factory=dict)
    downloads: list[Download] = field(default_factory=list)
    skipped: set[str] = field(default_factory=set)
    """Jobs that do nothing in some runs, and leave no artifacts then."""


@dataclass
class Use:
    """One `uses` step."""

    action: str
    version: str
    inputs: Part | None
    line: int
    job: Job
    scope: Scope
    actions: Actions
    always: bool
    exports: dict[str, str]

    def text(self, key: str, default: str = "") -> str:
        if self.inputs is None or key not in self.inputs:
            return default
        return self.scope.plain(self.inputs.text(key), f"`{key}` for {self.action}", self.inputs.line(key))

    def lines(self, key: str) -> list[str]:
        return [line.strip() for line in self.text(key).splitlines() if line.strip()]

    def note(self, advice: str, key: str = "") -> None:
        line = self.inputs.line(key) if key and self.inputs is not None else self.line
        what = f"`{key}` for {quoted(self.action)}" if key else quoted(self.action)
        self.scope.notes.add(line, f"{what} in {self.scope.called}", advice)


def translate(use: Use) -> list[str]:
    """Lines for the script, after whatever the action sets in the job."""
    handler = _HANDLERS.get(use.action)
    if use.action in _IMAGES:
        handler = _language
    if handler is None:
        use.note(_advice(use.action))
        return []
    found = handler(use)
    if use.inputs is not None:
        use.inputs.rest(f"{quoted(use.action)} in {use.scope.called}", {})
    return found


def _advice(action: str) -> str:
    if action.startswith("./"):
        return "an action of the repository: put its commands into the script"
    if action.startswith("docker://"):
        return "run that image in a job of its own: `image:` and `script:`"
    return "no equal is known; call the program itself in the script, or use a plugin with `uses:` in a job of its own"


def _checkout(use: Use) -> list[str]:
    """The agent checks out before the script."""
    part = use.inputs
    if part is not None:
        part.skip("fetch-depth", "persist-credentials", "fetch-tags", "clean", "show-progress", "token", "ssh-key")
        for key in ("repository", "ref", "path", "submodules", "lfs"):
            if key in part:
                part.skip(key)
                use.note("the agent has checked out the repository itself; do this in the script", key)
    return []


def _language(use: Use) -> list[str]:
    """A language is chosen by the image; a job has one."""
    image, key = _IMAGES[use.action]
    job, part = use.job, use.inputs
    text = use.text(key) or (use.version if use.action == "dtolnay/rust-toolchain" else "")
    match = _VERSION.fullmatch(text)
    if job.image:
        use.note(f"the job runs in the image {job.image} already; install it there or choose an image with both")
    elif match or text in ("", "stable", "latest", "lts/*", "current"):
        job.image = f"{image}:{match[1]}" if match else image
        use.note(f"the job runs in the image {job.image}; choose another one if tools are missing there")
    else:
        use.note(f"no image is known for the version {quoted(text)}; set `image:`", key)
    if part is None:
        return []
    part.skip("distribution", "check-latest", "architecture", "token", "cache-dependency-path", "allow-prereleases")
    for later in ("registry-url", "scope", "components", "targets", f"{key}-file"):
        if later in part:
            part.skip(later)
            use.note("set this up in the script", later)
    kind = use.text("cache")
    if kind in _LOCKS:
        lock, folder = _LOCKS[kind]
        _add_cache(use, f'{kind}-{{{{ hash "**/{lock}" }}}}', [folder], "cache")
    elif kind and kind != "false":
        use.note("write it out: `cache: [{key: '…{{ hash \"FILE\" }}', paths: […]}]`", "cache")
    return []


def _cache(use: Use) -> list[str]:
    part = use.inputs
    if part is None:
        return []
    part.skip("restore-keys", "enableCrossOsArchive", "lookup-only", "fail-on-cache-miss")
    raw, paths = part.text("key"), use.lines("path")

    def token(match: re.Match[str]) -> str:
        files = _HASH_FILES.match(match[1])
        if files is None:
            return match[0]
        return "-".join(f'{{{{ hash "{name}" }}}}' for name in re.findall(r"'([^']*)'", files[1]))

    text = EXPRESSION.sub(token, raw)
    pieces = re.split(r'(\{\{ hash "[^"]*" \}\})', text)
    plain = [
        piece if index % 2 else use.scope.plain(piece, "a cache key", part.line("key")) if piece else ""
        for index, piece in enumerate(pieces)
    ]
    key = "".join(piece if index % 2 else re.sub(r"[^A-Za-z0-9_.-]+", "-", piece) for index, piece in enumerate(plain))
    if "restore-keys" in part:
        use.note("a cache is found by its whole key only", "restore-keys")
    _add_cache(use, key.strip("-"), paths, "key")
    return []


def _add_cache(use: Use, key: str, paths: list[str], blame: str) -> None:
    kept = []
    for path in paths:
        moved = _MOVED.get(path.rstrip("/"))
        if moved is not None:
            use.exports[moved[0]] = moved[1]
            kept.append(moved[1])
        elif path.startswith(("~", "/", "!", "$")) or ".." in path:
            use.note(f"{quoted(path)} is outside of the workspace; tell the program to use a folder in it", blame)
        else:
            kept.append(path)
    flaw = cache_key_flaw(key) if key else "is empty"
    if flaw:
        use.note(f"the key of the cache {flaw}; left out", blame)
    elif kept:
        use.job.cache.append((key, kept))


def _upload(use: Use) -> list[str]:
    part, job = use.inputs, use.job
    if part is None:
        return []
    paths = []
    for path in use.lines("path"):
        if path.startswith(("!", "~", "/", "$")) or ".." in path:
            use.note(f"{quoted(path)} cannot be an artifact; paths are relative to the workspace", "path")
        else:
            paths.append(path.removeprefix("./"))
    days = use.text("retention-days")
    if re.fullmatch(r"[1-9]\d{0,3}", days):
        job.expire_in = f"{days}d"
    required = use.text("if-no-files-found") == "error"
    (job.required if required else job.optional).extend(paths)
    if use.always:
        job.artifacts_when = "always"
    use.actions.uploads.setdefault(use.text("name", "artifact"), []).append(Upload(job, paths))
    part.skip("compression-level", "overwrite", "include-hidden-files")
    return []


def _download(use: Use) -> list[str]:
    name, path = use.text("name"), use.text("path").removeprefix("./").rstrip("/")
    if use.inputs is not None:
        use.inputs.skip("merge-multiple")
    use.actions.downloads.append(Download(use.job, name, path, use.line))
    return []


def connect(actions: Actions, scope_notes: Callable[[int, str, str], None]) -> None:
    """Turns downloads into `needs_artifacts`, and what is downloaded into artifacts that must be there."""
    for download in actions.downloads:
        if download.name:
            uploads = actions.uploads.get(download.name, [])
        else:
            uploads = [upload for each in actions.uploads.values() for upload in each]
        if not uploads:
            what = f"the artifact {quoted(download.name or 'artifact')} for {quoted(download.job.name)}"
            scope_notes(download.line, what, "no job of this file makes it; use `from_pipeline` for another pipeline")
        for upload in uploads:
            if upload.job is download.job or not upload.paths:
                continue
            if upload.job.name in actions.skipped:
                what = f"artifacts of {quoted(upload.job.name)} for {quoted(download.job.name)}"
                advice = "that job may leave nothing, which would fail this one; put both into a pipeline with `when:`"
                scope_notes(download.line, what, advice)
                continue
            upload.job.required += [path for path in upload.paths if path not in upload.job.required]
            entry = {"from_job": upload.job.name}
            same = [path.split("*")[0].rstrip("/") for path in upload.paths]
            if download.path not in ("", ".") and download.path not in same:
                entry["dest"] = f"{download.path}/"
                advice = f"files keep their path from the workspace below `{download.path}/`"
                scope_notes(download.line, f"the artifact {quoted(download.name)}", advice)
            if entry not in download.job.needs_artifacts:
                download.job.needs_artifacts.append(entry)


def _login(use: Use) -> list[str]:
    part = use.inputs
    if part is None:
        return []
    line = part.line("password")
    user, password = (use.scope.script(part.text(key), line) for key in ("username", "password"))
    registry = use.scope.script(part.text("registry"), line)
    part.skip("logout")
    if password in ("${GITHUB_TOKEN}",) or not user:
        use.note("store a user and a token of the registry as secrets")
    return [f'printf %s "{password}" | docker login {_argument(registry)} --username "{user}" --password-stdin']


def _build(use: Use) -> list[str]:
    part, job = use.inputs, use.job
    if part is None:
        return []
    job.docker = True
    texts = {key: use.scope.script(part.text(key), part.line(key)) for key in ("context", "file", "target")}
    tags = [tag.strip() for tag in re.split(r"[\n,]", use.scope.script(part.text("tags"), part.line("tags")))]
    tags = [tag for tag in tags if tag]
    arguments = use.scope.script(part.text("build-args"), part.line("build-args")).splitlines()
    words = ["docker build"]
    words += [f"--file {_argument(texts['file'])}"] if texts["file"] else []
    words += [f"--target {_argument(texts['target'])}"] if texts["target"] else []
    words += [f"--build-arg {_argument(argument.strip())}" for argument in arguments if argument.strip()]
    words += [f"--tag {_argument(tag)}" for tag in tags]
    words.append(_argument(texts["context"] or "."))
    push = part.text("push")
    pushes = [f"docker push {_argument(tag)}" for tag in tags]
    lines = [" ".join(words)]
    if push == "true":
        lines += pushes
    elif push and push != "false":
        condition = use.scope.condition(push)
        if unknown(condition):
            use.note("the condition is not understood; it is not pushed", "push")
        else:
            lines += [f"if {shell(condition)}; then", *pushes, "fi"]
    part.skip("cache-from", "cache-to", "provenance", "sbom")
    if "platforms" in part:
        part.skip("platforms")
        use.note("it is built for the platform of the agent", "platforms")
    return lines


def _argument(text: str) -> str:
    """A word for the shell in which `${X}` stands for a variable."""
    return f'"{text}"' if "$" in text and '"' not in text else shlex.quote(text) if text else ""


def _docker(use: Use) -> list[str]:
    use.job.docker = True
    if use.inputs is not None:
        use.inputs.skip(*use.inputs)
    return []


_HANDLERS: dict[str, Callable[[Use], list[str]]] = {
    "actions/checkout": _checkout,
    "actions/cache": _cache,
    "actions/upload-artifact": _upload,
    "actions/download-artifact": _download,
    "docker/login-action": _login,
    "docker/build-push-action": _build,
    "docker/setup-buildx-action": _docker,
    "docker/setup-qemu-action": _docker,
}
