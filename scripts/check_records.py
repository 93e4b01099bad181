"""Hold the records in benchmarks/results/ against the code of today.

For each record: run the command that made it on a copy, and see that it finds nothing left to do. With --rerun N,
also measure the first N held-out seeds of some records anew, and compare every number but times and versions. Records
were made on several processors, which round differently in the last digits; the largest difference is printed.

    python scripts/check_records.py                          # all of them, about five minutes
    python scripts/check_records.py gaming.jsonl             # one
    python scripts/check_records.py --rerun 3 digits-knots.jsonl sampling-gaussian.jsonl sampling-mixture.jsonl
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-4
RESULTS = ROOT / "benchmarks" / "results"
NOT_MEASURED = {"seconds", "versions", "hardware", "created", "revision"}


def main() -> int:
    """Check what is asked for; 0 if all of it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", nargs="*", help="names in records.toml; all when absent")
    parser.add_argument("--rerun", type=int, metavar="N", default=0, help="measure N seeds anew and compare")
    options = parser.parse_args()
    commands = {
        record["path"]: record["command"]
        for record in tomllib.loads((RESULTS / "records.toml").read_text(encoding="utf-8"))["record"]
    }
    if unknown := set(options.records) - commands.keys():
        parser.error(f"no such record: {', '.join(sorted(unknown))}; there are {', '.join(commands)}")
    failed = 0
    for name in options.records or commands:
        with tempfile.TemporaryDirectory() as folder:
            if options.rerun:
                problem = rerun(name, commands[name], Path(folder), options.rerun)
            else:
                problem = nothing_left(name, commands[name], Path(folder))
        print(f"{name}: {problem or 'holds'}", flush=True)
        failed += problem is not None
    return 1 if failed else 0


def nothing_left(name: str, command: str, folder: Path) -> str | None:
    """What a record's own command adds to a copy of it, in words."""
    copy = folder / name
    if (RESULTS / name).is_dir():
        shutil.copytree(RESULTS / name, copy)
    else:
        shutil.copy(RESULTS / name, copy)
    before = lines(copy)
    problem = run(command, copy)
    after = lines(copy)
    if problem is None and after != before:
        return (
            f"{len(after) - len(before)} lines were added"
            if after[: len(before)] == before
            else "was changed"
        )
    return problem


def rerun(name: str, command: str, folder: Path, seeds: int) -> str | None:
    """Where newly measured lines differ from the record's, in words."""
    recorded = {key(line): line for line in map(json.loads, lines(RESULTS / name))}
    target = folder / "new.jsonl"
    words = command.split()
    if "--seeds" in words:
        del words[words.index("--seeds") : words.index("--seeds") + 2]
    problem = run(" ".join([*words, "--seeds", str(seeds)]), target)
    if problem is not None:
        return problem
    new = [json.loads(line) for line in lines(target)]
    differences: list[float] = []
    for line in new:
        old = recorded.get(key(line))
        if old is None:
            return f"has no line for {key(line)}"
        for field in old.keys() - NOT_MEASURED:  # older lines lack what newer ones have
            differences.append(difference(old[field], line.get(field)))
            if differences[-1] > TOLERANCE:
                return f"{key(line)}: {field} was {old[field]} and is {line.get(field)}"
    largest = max(differences, default=0.0)
    print(f"{name}: {len(new)} runs measured anew, largest relative difference {largest:.1g}")
    return None


def difference(old: Any, new: Any) -> float:
    """Largest relative difference of numbers in two values; infinite where anything else differs."""
    if isinstance(old, float) and isinstance(new, float):
        return 0.0 if old == new else abs(old - new) / max(abs(old), abs(new), 1e-9)
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return max((difference(old[name], new[name]) for name in old), default=0.0)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return max((difference(*pair) for pair in zip(old, new, strict=True)), default=0.0)
    return 0.0 if old == new else float("inf")


def key(line: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two lines the same run."""
    return tuple(line.get(part) for part in ("env_id", "fingerprint", "agent", "agent_hash", "form", "seed"))


def lines(path: Path) -> list[str]:
    """Lines of a record."""
    file = path / "results.jsonl" if path.is_dir() else path
    return file.read_text(encoding="utf-8").splitlines()


def run(command: str, target: Path) -> str | None:
    """Run a record's command; what went wrong, in words."""
    is_file = target.suffix == ".jsonl"
    words = shlex.split(command.format(target=f"--json {target}" if is_file else f"-f {target}"))
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return None if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr.strip()[-500:]}"


if __name__ == "__main__":
    sys.exit(main())
