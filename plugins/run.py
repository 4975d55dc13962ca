"""Starts a plugin that is written in Python: `python3 -I run.py NAME LIBRARIES`.

An agent without containers starts plugins this way. LIBRARIES is the folder that the agent's own packages are in, among
them httpx and tenacity; it comes after the interpreter's. The plugin finds `kit` and nothing else of ours.
"""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    name, libraries = sys.argv[1:3]
    sys.path.insert(0, str(here))
    sys.path.append(libraries)
    sys.argv = [str(here / name / "plugin.py")]
    runpy.run_path(sys.argv[0], run_name="__main__")
