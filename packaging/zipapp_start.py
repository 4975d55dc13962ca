"""What runs first in `dist/gocdnext`: checks that need a sentence instead of a traceback, then the program.

Built in as `__main__.py` of the zipapp by make_zipapp.py. When the file was unpacked before, the program is started
from there directly; locking and unpacking is shiv's. Only what every Python has, and as few
imports as possible: this is paid by each command, completion in the shell included.
"""

import os
import sys

BUILT_FOR = ((3, 11), "x86_64")
"""Python version and machine that the compiled libraries inside are bound to. The build writes the true value."""


def refusal(text: str) -> SystemExit:
    """Says what is wrong; raised, it ends with the exit code for "cannot"."""
    sys.stderr.write(f"gocdnext: {text}\n")
    return SystemExit(3)


def trusted(path: str) -> str:
    """The path, when nobody but its owner, who is this user or root, decides what is in it."""
    status = os.stat(path)
    if status.st_uid not in (os.geteuid(), 0):
        raise refusal(f"will not run code from {path}: it belongs to another user. Set SHIV_ROOT to a folder of yours.")
    # In a folder like /tmp others can add, but not replace; what they add is checked by its own owner.
    if status.st_mode & 0o022 and not status.st_mode & 0o1000:
        raise refusal(f"will not run code from {path}: others may write there. Run: chmod go-w {path}")
    return path


def main() -> None:
    version, machine = BUILT_FOR
    if sys.version_info[:2] != version or os.uname().machine != machine:
        raise refusal(
            f"this file was built for Python {version[0]}.{version[1]} on {machine}; this is Python "
            f"{sys.version_info[0]}.{sys.version_info[1]} on {os.uname().machine}. "
            f"Run it as: python{version[0]}.{version[1]} {sys.argv[0]}"
        )
    if any(name.startswith("SHIV_") and name != "SHIV_ROOT" for name in os.environ):
        # Somebody who knows shiv wants something special of it.
        from _bootstrap import bootstrap  # type: ignore[import-not-found]

        bootstrap()
    import json

    build = json.loads(globals()["__loader__"].get_data("environment.json"))["build_id"]
    root = os.path.expanduser(os.environ.get("SHIV_ROOT") or "~/.shiv")
    folder = os.path.join(root, f"{os.path.basename(os.path.realpath(sys.argv[0]))}_{build}")
    if not os.path.isdir(folder):
        unpack(folder, root)
    trusted(root)
    sys.path[0] = os.path.join(trusted(folder), "site-packages")
    # The folder is a cache of ours: byte code belongs there even where PYTHONDONTWRITEBYTECODE is set for others.
    sys.dont_write_bytecode = False
    from gocdnext.cli import main as program

    sys.exit(program())


def forget_older(folder: str, root: str) -> None:
    """Remove what earlier files unpacked, in the cache directory of a service: nobody else runs from there."""
    own = os.environ.get("CACHE_DIRECTORY", "")
    if not own or os.path.dirname(os.path.realpath(root)) != os.path.realpath(own):
        return
    import shutil

    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False) and entry.path != folder:
            shutil.rmtree(entry.path, ignore_errors=True)


def unpack(folder: str, root: str) -> None:
    """Unpack the file into a folder; others that start at the same time wait, and find it done."""
    from pathlib import Path

    from _bootstrap import current_zipfile, extract_site_packages

    try:
        os.makedirs(root, mode=0o755, exist_ok=True)
        trusted(root)
        with current_zipfile() as archive:
            extract_site_packages(archive, Path(folder))
        forget_older(folder, root)
    except OSError as error:
        advice = "Free space there, or set SHIV_ROOT to a folder that this user owns."
        raise refusal(f"cannot unpack into {root}: {error.strerror}. {advice}") from None
    except RuntimeError as error:
        # zipfile's word for a Python that was compiled without lzma.
        raise refusal(f"this Python cannot unpack it ({error}). Use the Python of the distribution, whole.") from None


main()
