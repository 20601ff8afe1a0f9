"""The bench of the driver's costs plays a whole search; its figures are for people, that it runs is for a test."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_bench_of_scale_plays_a_search_to_its_end(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/bench_scale.py", "--candidates", "12", "--folds", "3", "--slots", "4"]
    done = subprocess.run(
        [*command, "--sampler", "random", "--folder", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"candidates (\d+), fold runs finished (\d+)", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) == 12
    assert 12 <= int(found[2]) < 36
    assert "next_run" in done.stdout
    assert "opened again: first decision" in done.stdout
