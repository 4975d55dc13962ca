"""What runs first in `dist/gocdnext`: checks that need a sentence instead of a traceback, then the program.

Built in as `__main__.py` of the zipapp by make_zipapp.py. When the file was unpacked before, the program is started
from there directly; locking and unpacking is shiv's. Only what every Python has, and as few
imports as possible: this is paid by each command, completion in the shell included.
"""

import os
import sys

BUILT_FOR = ((3, 11), "x86_64")
"""Python version and machine that the compiled libraries inside are bound to. The build writes the true value."""


def fail(text):
    """Say what is wrong and end with the code for "cannot"."""
    sys.stderr.write(f"gocdnext: {text}\n")
    raise SystemExit(3)


def unpack_root():
    """The folder that shiv unpacks into; ends with a sentence when nothing can be written there."""
    chosen = os.environ.get("SHIV_ROOT")
    root = os.path.expanduser(chosen or "~/.shiv")
    place = root
    while not os.path.exists(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        fail(f"cannot unpack into {root}: {place} is not a folder. Set SHIV_ROOT to a folder that this user owns.")
    if not os.access(place, os.W_OK | os.X_OK):
        fail(f"cannot unpack into {root}: {place} is not writable. Set SHIV_ROOT to a folder that this user owns.")
    status = os.stat(place)
    if place == root and status.st_uid not in (os.geteuid(), 0):
        fail(f"will not run code from {root}: it belongs to another user. Set SHIV_ROOT to a folder of your own.")
    if place == root and status.st_mode & 0o022 and not status.st_mode & 0o1000:
        fail(f"will not run code from {root}: others may write there. Run: chmod go-w {root}")
    return root


def main():
    version, machine = BUILT_FOR
    if sys.version_info[:2] != version or os.uname().machine != machine:
        fail(
            f"this file was built for Python {version[0]}.{version[1]} on {machine}; this is Python "
            f"{sys.version_info[0]}.{sys.version_info[1]} on {os.uname().machine}. "
            f"Run it as: python{version[0]}.{version[1]} {sys.argv[0]}"
        )
    root = unpack_root()
    if any(name.startswith("SHIV_") and name != "SHIV_ROOT" for name in os.environ):
        # Somebody who knows shiv wants something special of it.
        from _bootstrap import bootstrap

        bootstrap()
    import json

    build = json.loads(__loader__.get_data("environment.json"))["build_id"]
    folder = os.path.join(root, f"{os.path.basename(os.path.realpath(sys.argv[0]))}_{build}")
    if not os.path.isdir(folder):
        unpack(folder, root)
    sys.path[0] = os.path.join(folder, "site-packages")
    # The folder is a cache of ours: byte code belongs there even where PYTHONDONTWRITEBYTECODE is set for others.
    sys.dont_write_bytecode = False
    from gocdnext.cli import main as program

    sys.exit(program())


def unpack(folder, root):
    """Unpack the file into a folder; others that start at the same time wait, and find it done."""
    from pathlib import Path

    from _bootstrap import current_zipfile, extract_site_packages

    try:
        with current_zipfile() as archive:
            extract_site_packages(archive, Path(folder))
    except OSError as error:
        fail(f"cannot unpack into {root}: {error.strerror}. Free space there, or set SHIV_ROOT to another folder.")


main()
