"""The sandbox engine: tasks are `sh` processes in namespaces of their own, made by bubblewrap (engines B4).

A task sees the system read-only, the directory of its job, a /tmp and a home of its own, and its own processes; nothing
else of the machine. It is the host engine with bubblewrap before `sh`. It bounds no memory and no processors.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence

import trio

from gocdnext.agent import environment
from gocdnext.agent.config import AgentSettings, ConfigError
from gocdnext.agent.engines import EngineError, TaskLog
from gocdnext.agent.engines.host import HostEngine, HostTasks
from gocdnext.agent.joblog import STDERR, STDOUT
from gocdnext.agent.process import Sink, run_process
from gocdnext.proto.agent_pb2 import JobAssignment

HOME = "/home/job"
PROBE = 20.0
"""Seconds that the first sandbox may take."""
MAX_VARIABLES = 2000
"""bubblewrap takes 9000 words, and each variable is three of them."""

_MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM = ("/usr", "/opt", "/nix/store")
# What programs need of /etc to find libraries, names, users and certificates. Nothing that only root may read is here:
# an agent that runs as root could read it.
_ETC = tuple(
    f"/etc/{name}"
    for name in (
        *("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "os-release", "debian_version", "lsb-release"),
        *("hosts", "host.conf", "resolv.conf", "nsswitch.conf", "gai.conf", "services", "protocols"),
        *("passwd", "group", "shells", "localtime", "timezone", "locale.conf", "locale.alias", "mime.types", "fonts"),
        *("ca-certificates", "ca-certificates.conf", "ssl/certs", "ssl/cert.pem", "ssl/openssl.cnf"),
        *("pki/ca-trust/extracted", "pki/tls/certs", "pki/tls/cert.pem", "pki/tls/openssl.cnf", "crypto-policies"),
        *("terminfo", "perl", "python3", "java"),
    )
)
# The kernel lets uid 0 write here without any capability, in a namespace or not: as root, a task could have the kernel
# run a program outside. Covered, they also keep a task from mounting another /proc.
_KERNEL = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi", "/proc/scsi")


class SandboxEngine(HostEngine):
    """Namespaces for users, processes, IPC, host name and cgroups; the network too when it is switched off."""

    name = "sandbox"

    def __init__(self, root: str, *, network: bool = True, readable: Sequence[str] = ()) -> None:
        super().__init__(())
        self._root = root
        self._network = network
        self._readable = tuple(readable)
        self._program = ""

    async def start(self) -> None:
        """See Engine. ConfigError when there is no bubblewrap, or the kernel does not let it work."""
        trouble = await self.trouble()
        if trouble is not None:
            raise ConfigError(trouble)

    async def trouble(self) -> str | None:
        """Why there can be no sandbox on this machine, tried with the very one that tasks get; None when it works."""
        program = shutil.which("bwrap")
        if program is None:
            return (
                "the sandbox engine needs bubblewrap, and there is no bwrap on this machine; install the package "
                "bubblewrap (apt-get install bubblewrap), or set GOCDNEXT_AGENT_ENGINE to another engine"
            )
        self._program = program
        said = _Said()
        argv, env = [program, *self.walls(), "--chdir", "/", "--", "sh", "-c", "exit 0"], environment.for_jobs()
        code = -1
        try:
            with trio.move_on_after(PROBE):
                code = await run_process(argv, cwd="/", env=env, stdout=said, stderr=said)
        except OSError as error:
            return f"{program} cannot be run: {error.strerror or error}"
        if code == 0:
            return None
        return (
            f"bubblewrap cannot make a sandbox on this machine ({said.text() or f'it ended with {code}'}). Where the "
            "kernel keeps user namespaces from ordinary users, allow them (sysctl kernel.unprivileged_userns_clone=1; "
            "on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0), or set GOCDNEXT_AGENT_ENGINE to another engine"
        )

    async def refusal(self, assignment: JobAssignment) -> str | None:
        """See Engine. Whoever has the socket of a container engine has the machine: there would be no sandbox."""
        if assignment.docker:
            return (
                "docker: the sandbox engine gives no job the socket of a container engine; "
                "give the job an image and run it on an agent with the docker engine"
            )
        return await super().refusal(assignment)

    def tasks(self, assignment: JobAssignment, cwd: str, log: TaskLog, network: str) -> SandboxTasks:
        """See Engine."""
        return SandboxTasks(self, self._program, self.job_directory(cwd), cwd, log)

    def job_directory(self, cwd: str) -> str:
        """The whole directory of the job that `cwd` is in: all of its materials, not only the first."""
        parts = os.path.relpath(cwd, self._root).split(os.sep)
        return os.path.join(self._root, *parts[:2]) if len(parts) >= 2 and parts[0] != ".." else cwd

    def walls(self) -> list[str]:
        """bubblewrap's options that are the same for every task."""
        options = ["--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]
        # No --new-session: there is no terminal to keep from the task, and in the process group of bubblewrap itself
        # it is killed together with it.
        options += ["--share-net"] if self._network else []
        for path in _MERGED:
            if os.path.islink(path):
                options += ["--symlink", os.readlink(path), path]
            else:
                options += ["--ro-bind-try", path, path]
        for path in (*_SYSTEM, *_ETC):
            options += ["--ro-bind-try", path, path]
        options += ["--proc", "/proc"]
        for path in _KERNEL:
            options += ["--ro-bind-try", path, path]
        options += ["--dev", "/dev", "--tmpfs", "/dev/shm", "--dir", "/run", "--symlink", "/tmp", "/var/tmp"]
        return options

    def extras(self) -> Iterator[str]:
        """bubblewrap's options for the paths of the settings. They come after /tmp, in which they may be."""
        for path in self._readable:
            yield from ("--ro-bind-try", path, path)


class SandboxTasks(HostTasks):
    """See Tasks. What a task leaves in /tmp and in its home is there for the next one of the job."""

    engine = SandboxEngine.name

    def __init__(self, sandbox: SandboxEngine, program: str, directory: str, cwd: str, log: TaskLog) -> None:
        super().__init__(cwd, log)
        self._sandbox = sandbox
        self._program = program
        self._directory = directory
        self._scratch = f"{directory}.sandbox"

    async def _run(self, argv: Sequence[str], env: Mapping[str, str], needs: Sequence[str]) -> int:
        """See HostTasks. EngineError when the sandbox itself did not come to be."""
        if len(env) > MAX_VARIABLES:
            raise EngineError(f"the job has {len(env)} variables; in a sandbox {MAX_VARIABLES} are the limit")
        tmp, home = os.path.join(self._scratch, "tmp"), os.path.join(self._scratch, "home")
        for path in (tmp, home):
            os.makedirs(path, mode=0o700, exist_ok=True)
        options = [
            *self._sandbox.walls(),
            *("--bind", tmp, "/tmp", "--bind", home, HOME),
            *self._sandbox.extras(),
            *(word for path in needs for word in ("--ro-bind", path, path)),
            *("--bind", self._directory, self._directory),
            *self._credentials(),
            *("--remount-ro", "/", "--chdir", self._cwd, "--clearenv"),
        ]
        for name, value in self._variables(env).items():
            options += ["--setenv", name, value]
        # The job's variables are words for bubblewrap in a file that only it sees: on its command line everybody could
        # read the secrets among them, and in its environment an LD_PRELOAD would run outside of the sandbox.
        with _memory("options", options) as words, _memory("status") as status:
            command = [self._program, "--args", str(words), "--json-status-fd", str(status), "--", *argv]
            said = _Kept(self._log.sink(STDERR))
            code = await run_process(
                command,
                cwd="/",
                env=environment.for_jobs(),
                stdout=self._log.sink(STDOUT),
                stderr=said,
                pass_fds=(words, status),
            )
            if code > 0 and b'"exit-code"' not in os.pread(status, 4096, 0):
                raise EngineError(f"the sandbox could not be made: {said.text() or f'bubblewrap ended with {code}'}")
        return code

    def _variables(self, env: Mapping[str, str]) -> dict[str, str]:
        base = environment.for_jobs()
        base.pop("TMPDIR", None)  # of the machine, not of the sandbox
        return {**base, "HOME": HOME, **env}

    def _credentials(self) -> Iterator[str]:
        """The files with which the job's own git is let in, see checkout.py."""
        for path in sorted(glob.glob(f"{glob.escape(self._directory)}.git-credentials-*")):
            yield from ("--ro-bind", path, path)


class _Said:
    """Keeps the end of what bubblewrap says."""

    def __init__(self) -> None:
        self._kept = b""

    async def feed(self, chunk: bytes) -> None:
        self._kept = (self._kept + chunk)[-1024:]

    async def finish(self) -> None:
        pass

    def text(self) -> str:
        """One line."""
        return "; ".join(line.strip() for line in self._kept.decode("utf-8", "replace").splitlines() if line.strip())


class _Kept(_Said):
    """The same beside another sink."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    async def feed(self, chunk: bytes) -> None:
        await super().feed(chunk)
        await self._sink.feed(chunk)

    async def finish(self) -> None:
        await self._sink.finish()


@contextlib.contextmanager
def _memory(name: str, words: Sequence[str] = ()) -> Iterator[int]:
    """The descriptor of a file in memory, with words that end in NUL."""
    descriptor = os.memfd_create(name)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.writelines(os.fsencode(word) + b"\0" for word in words)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def open_sandbox(settings: AgentSettings) -> SandboxEngine:
    """The engine as the settings describe it."""
    return SandboxEngine(
        settings.workspace_root, network=settings.sandbox_network, readable=settings.sandbox_read_only_paths
    )
