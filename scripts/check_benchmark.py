"""Whether a benchmark survives being killed: runs a protocol with SIGKILL at random moments, and again unbroken.

    scripts/check_benchmark.py benchmarks/gaming.toml --kills 5 --within 1 -- --seeds 3 --jobs 2

What follows ``--`` goes to both. The verdict: the broken one's file has every run exactly once, and equals the unbroken
one's but for times and order; and no process outlives the one that was killed. With ``--keep FOLDER`` both stay, and
are gone on with.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TIMES = ("seconds", "created")


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Lines of a result file without their times, in an order of their own."""
    made = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [{key: value for key, value in line.items() if key not in TIMES} for line in made]
    return sorted(kept, key=lambda line: json.dumps(line, sort_keys=True))


def children(pid: int) -> set[int]:
    """A process's descendants, where the system tells (Linux)."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found, front = set[int](), {pid}
    while front:
        front = {child for child, parent in parents.items() if parent in front} - found
        found |= front
    return found


def alive(pid: int) -> bool:
    """Whether a process is still at work."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def count(path: Path) -> int:
    """Whole lines that a result file has by now."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_once(command: list[str], results: Path, seconds: float) -> str:
    """Start the benchmark and kill it after so many seconds."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and time.monotonic() - began < seconds:
        time.sleep(0.01)
    family = children(process.pid)
    process.kill()
    process.wait()
    end = time.monotonic() + 20.0
    while any(map(alive, family)) and time.monotonic() < end:
        time.sleep(0.05)
    if left := [pid for pid in family if alive(pid)]:
        raise SystemExit(f"FAILED: processes {left} outlived the one that was killed")
    how = "killed" if process.returncode < 0 else "ended before the kill"
    return f"{how} after {time.monotonic() - began:.1f} s, {count(results)} runs written"


def run(command: list[str]) -> None:
    """Run the benchmark to its end."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"FAILED: {done.stderr.strip().splitlines()[-1]}")


def check(command: list[str], folder: Path, kills: int, within: float, rng: random.Random) -> str:
    """Run broken and unbroken in ``folder``, and compare.

    Args:
        command: The benchmark's, but for its folder, which comes last.
        folder: Where both go.
        kills: How often.
        within: Minutes of the broken run's time within which they happen.
        rng: Draws the moments.
    """
    whole, broken = folder / "whole", folder / "broken"
    moments = [0.0, *sorted(rng.uniform(0.0, 60.0 * within) for _ in range(kills))]
    began = time.monotonic()
    for number, (last, moment) in enumerate(itertools.pairwise(moments), start=1):
        said = kill_once([*command, str(broken)], broken / "results.jsonl", moment - last)
        print(f"kill {number}: {said}", flush=True)
    run([*command, str(broken)])
    found = lines_of(broken / "results.jsonl")
    print(f"broken: {len(found)} runs, {(time.monotonic() - began) / 60.0:.1f} minutes in all", flush=True)
    began = time.monotonic()
    run([*command, str(whole)])
    expected = lines_of(whole / "results.jsonl")
    print(f"unbroken: {len(expected)} runs, {(time.monotonic() - began) / 60.0:.1f} minutes", flush=True)
    if found != expected:
        missing = sum(line not in found for line in expected)
        raise SystemExit(
            f"FAILED: {len(found)} lines where {len(expected)} were expected; {missing} of these differ or are missing"
        )
    return f"OK: after {kills} kills every run is there once, and equal to the unbroken one's"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocol", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--within", type=float, default=1.0, metavar="MINUTES", help="when the kills happen")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where both runs stay")
    given, options = sys.argv[1:], list[str]()
    if "--" in given:
        given, options = given[: given.index("--")], given[given.index("--") + 1 :]
    words = parser.parse_args(given)
    rng = random.Random(words.seed)
    command = [sys.executable, "-m", "schedrl", "benchmark", str(words.protocol), *options, "-f"]
    if words.keep is not None:
        print(check(command, words.keep, words.kills, words.within, rng))
        return
    with tempfile.TemporaryDirectory() as name:
        print(check(command, Path(name), words.kills, words.within, rng))


if __name__ == "__main__":
    main()
