"""Whether a benchmark survives being killed: runs a protocol unbroken, and again with SIGKILL at random moments.

    scripts/check_benchmark.py benchmarks/gaming.toml --kills 5 -- --seeds 3 --jobs 2

What follows ``--`` goes to both. The verdict: the broken one's file has every run exactly once, and equals the unbroken
one's but for times and order; and no process outlives the one that was killed.
"""

from __future__ import annotations

import argparse
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


def kill_once(command: list[str], results: Path, total: int, rng: random.Random) -> str:
    """Start the benchmark, and kill it a random while after it has written a random number of lines."""
    there = count(results)
    target = rng.randint(there, max(there, total - 1))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    began = time.monotonic()
    # Without a line to wait for, some moment from the start of Python to the middle of the first task.
    earliest = began + (rng.uniform(0.0, 8.0) if target == there else 0.0)
    while process.poll() is None and (count(results) < target or time.monotonic() < earliest):
        time.sleep(0.01)
    time.sleep(rng.uniform(0.0, 0.3))
    family = children(process.pid)
    process.kill()
    process.wait()
    end = time.monotonic() + 20.0
    while any(map(alive, family)) and time.monotonic() < end:
        time.sleep(0.05)
    if left := [pid for pid in family if alive(pid)]:
        raise SystemExit(f"FAILED: processes {left} outlived the one that was killed")
    how = "killed" if process.returncode < 0 else "ended before the kill"
    return f"{how} after {time.monotonic() - began:.1f} s, {count(results)} of {total} runs written"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocol", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    given, options = sys.argv[1:], list[str]()
    if "--" in given:
        given, options = given[: given.index("--")], given[given.index("--") + 1 :]
    words = parser.parse_args(given)
    rng = random.Random(words.seed)
    with tempfile.TemporaryDirectory() as name:
        whole, broken = Path(name, "whole"), Path(name, "broken")
        command = [sys.executable, "-m", "schedrl", "benchmark", str(words.protocol), *options, "-f"]
        done = subprocess.run([*command, str(whole)], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the unbroken run failed: {done.stderr.strip().splitlines()[-1]}")
        expected = lines_of(whole / "results.jsonl")
        print(f"unbroken: {len(expected)} runs", flush=True)
        results = broken / "results.jsonl"
        for number in range(1, words.kills + 1):
            said = kill_once([*command, str(broken)], results, len(expected), rng)
            print(f"kill {number}: {said}", flush=True)
        subprocess.run([*command, str(broken)], check=True, capture_output=True)
        found = lines_of(results)
    if found != expected:
        missing = [line for line in expected if line not in found]
        raise SystemExit(
            f"FAILED: {len(found)} lines where {len(expected)} were expected; {len(missing)} of these differ or are "
            "missing"
        )
    print(f"OK: after {words.kills} kills every run is there once, and equal to the unbroken one's")


if __name__ == "__main__":
    main()
