"""Which slow libraries a command of ours loads, found in a process of its own."""

import subprocess
import sys

SLOW = (
    "matplotlib",
    "optuna",
    "pandas",
    "ray",
    "scipy",
    "scipy.optimize",
    "scipy.stats",
    "sklearn",
    "torch",
    "transformers",
)
PROGRAM = """
import runpy, sys
slow, sys.argv = sys.argv[1].split(","), [sys.argv[2], *sys.argv[3:]]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=False)
finally:
    print("LOADED", *(name for name in slow if name in sys.modules))
"""


def loaded_libraries(package: str, *arguments: object) -> set[str]:
    """Return those of `SLOW` that `python -m PACKAGE ARGUMENTS` loads; the command must succeed."""
    command = [sys.executable, "-c", PROGRAM, ",".join(SLOW), package, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "LOADED"
    return set(last[1:])
