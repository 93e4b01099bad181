"""Feed damaged and hostile files to every reader, under a memory limit: each is read, or refused in one line.

    python scripts/fuzz.py --cases 20000 --seed 0

Every case takes a valid file, changes some of its bytes or puts hostile values into its fields, and reads it. Anything
but a value or a SchedrlError of one line is a failure: it is printed, and its file is kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from schedrl import data, schedules
from schedrl.benchmark.benchmark_file import read_benchmark
from schedrl.benchmark.manifest import Several, TrainingManifest, read_manifest
from schedrl.benchmark.results import SamplingResult, TrainingResult
from schedrl.benchmark.store import read_results
from schedrl.cli.common import parse_settings
from schedrl.diffusion.trained_models import find_model
from schedrl.environments.variants import parse_variant
from schedrl.errors import SchedrlError, parse
from schedrl.export import Provenance, ScheduleFile
from schedrl.files import read_object
from schedrl.fit.fit_spec import FitSpec
from schedrl.fit.fitting import _log_until
from schedrl.metrics.features import ClassifierFeatures
from schedrl.policies.agent_files import load_agent
from schedrl.policies.agents import find
from schedrl.policies.ppo_training import read_request, request_for
from schedrl.policies.progress import read_progress

ROOT = Path(__file__).resolve().parents[1]
MEMORY, SECONDS = 4 * 2**30, 20

HOSTILE: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**18, 10**40, -(2**63), 0.5, 1e-308, 1e308, 1e999, "", " ", "x",
    "a" * 10_000, "\0", "../x", "/dev/zero", "[/red]", "$^", "\x1b[31m", "<script>", [], {}, [[]], [None], {"": 1},
    [0] * 1000, [1e9] * 3, {"name": "x"}, {"kind": "x"}, {"kind": []}, {"name": {}}, "cosine", "digits", "training",
]  # fmt: skip


def variant(path: Path) -> None:
    """Read a variant, and ask it for everything that needs no images."""
    made = parse_variant(read_object(path, "variant"))
    made.observation_space(), made.action_space(), made.fingerprint(), made.overview


def option(place: Path) -> str:
    """An option as Python hands it to a program, whatever its bytes are."""
    return (place / "a.json").read_text(encoding="utf-8", errors="surrogateescape")


def seeds(folder: Path) -> dict[str, tuple[Path, list[str], Callable[[Path], Any]]]:
    """By name: a folder of valid files, those to change, and the reader of a folder like it."""
    made: dict[str, tuple[Path, list[str], Callable[[Path], Any]]] = {}

    def add(name: str, files: dict[str, bytes], read: Callable[[Path], Any]) -> None:
        place = folder / name
        place.mkdir(parents=True)
        for file, content in files.items():
            (place / file).write_bytes(content)
        made[name] = (place, list(files), read)

    def one(path: Path) -> dict[str, bytes]:
        """A file as JSON, whose fields can be changed."""
        if path.suffix == ".toml":
            return {"a.json": json.dumps(tomllib.loads(path.read_text(encoding="utf-8"))).encode()}
        return {path.name: path.read_bytes()}

    for path in sorted((ROOT / "envs").glob("*.toml")):
        add(f"variant {path.stem}", one(path), lambda place: variant(place / "a.json"))
        add(
            f"variant toml {path.stem}",
            {"a.toml": path.read_bytes()},
            lambda place: variant(place / "a.toml"),
        )
    for path in sorted((ROOT / "agents").glob("*.toml")):
        add(
            f"agent {path.stem}",
            one(path),
            lambda place: find(str(place / "a.json"), "schedrl/DigitsKnots-v0"),
        )
    for path in sorted((ROOT / "benchmarks").glob("*.toml")):
        add(f"benchmark {path.stem}", one(path), lambda place: read_benchmark(place / "a.json"))
    for path in sorted((ROOT / "agents/trained").glob("*/agent.json"))[:4]:
        files = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.suffix != ".md"}
        add(f"trained {path.parent.name}", files, load_agent)
    request = request_for("schedrl/DigitsKnots-v0", 0).model_dump_json().encode()
    add("training request", {"training.json": request}, read_request)
    add(
        "curve", {"progress.csv": b"timesteps,seconds,return_mean,return_std\n1,0.5,1.0,1.0\n"}, read_progress
    )
    add(
        "fit log",
        {"log.jsonl": b'{"step": 1, "loss": 2.0}\n'},
        lambda place: _log_until(place / "log.jsonl", 5),
    )
    spec = {"data": {"name": "digits"}, "training": {"network": {"channels": [8, 16]}}, "schedule": "cosine"}
    fit = FitSpec.model_validate(spec).model_dump_json().encode()
    add("fit", {"fit.json": fit}, lambda place: parse(FitSpec, read_object(place / "fit.json", "fit"), "fit"))
    weights = ROOT / "schedrl/diffusion/weights/digits"
    add(
        "network",
        {file.name: file.read_bytes() for file in weights.iterdir()},
        lambda place: find_model(str(place)),
    )
    features = ROOT / "schedrl/metrics/weights"
    card = {name: (features / name).read_bytes() for name in ("digits-cnn.json", "digits-cnn.safetensors")}
    add("features", card, lambda place: ClassifierFeatures("digits-cnn", place))
    file = ScheduleFile.of(
        schedules.grid("karras", 4), "ddim", Provenance(method="x"), schedules.get("linear")
    )
    add(
        "schedule file",
        {"a.json": file.to_json().encode()},
        lambda place: ScheduleFile.read(place / "a.json"),
    )
    for law in ("cosine", "linear", "ava"):
        text = schedules.get(law).model_dump_json().encode()
        add(
            f"schedule {law}",
            {"a.json": text},
            lambda place: schedules.from_dict(read_object(place / "a.json", "s")),
        )
    for kind, model in (("training", TrainingResult), ("sampling", SamplingResult)):
        for path in sorted((ROOT / "benchmarks").rglob("*.jsonl")):
            line = path.read_bytes().split(b"\n", 1)[0] + b"\n"
            add(f"{kind} result {path.parent.name} {path.stem}", {"r.jsonl": line},
                lambda place, model=model: read_results(place / "r.jsonl", model))  # fmt: skip
    several = b'{"family": "several", "parts": ["a", "b"]}'
    add("several", {"benchmark.json": several}, lambda place: read_manifest(place, Several))
    for path in sorted((ROOT / "benchmarks").rglob("benchmark.json"))[:2]:
        add(f"manifest {path.parent.name}", one(path), lambda place: read_manifest(place, TrainingManifest))
    add("npz", {}, lambda place: data.load(data.Npz(path=str(place / "a.npz"), validation=1, test=1)))
    np.savez_compressed(made["npz"][0] / "a.npz", images=np.zeros((8, 4, 4), np.uint8))
    made["npz"][1].append("a.npz")
    add("option", {"a.json": b"a={}"}, lambda place: parse_settings([option(place)], "--set"))
    return made


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all fields."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [
        *([path] if path else []),
        *(found for key, part in parts for found in places(part, (*path, key))),
    ]


def changed(content: bytes, rng: random.Random) -> bytes:
    """A file with some fields, or some bytes, replaced."""
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if isinstance(value, dict) and rng.random() < 0.75:
        value = copy.deepcopy(value)
        for _ in range(rng.choice((1, 1, 2))):
            *path, last = rng.choice(places(value))
            inner = value
            for key in path:
                inner = inner[key]
            action = rng.random()
            if action < 0.1 and isinstance(inner, dict):
                del inner[last]
            elif action < 0.2 and isinstance(inner, dict):
                inner[rng.choice(("x", "", "name", "kind", "\0"))] = copy.deepcopy(rng.choice(HOSTILE))
            else:
                inner[last] = copy.deepcopy(rng.choice(HOSTILE))
            if not places(value):
                break
        return json.dumps(value).encode() + b"\n"
    raw = bytearray(content)
    for _ in range(rng.choice((1, 2, 8))):
        where, action = rng.randrange(len(raw) + 1), rng.random()
        if action < 0.5 and where < len(raw):
            raw[where] = rng.randrange(256)
        elif action < 0.7:
            del raw[where : where + rng.randrange(1, 64)]
        elif action < 0.9:
            raw[where:where] = rng.choice(
                (b"[" * 50_000, b"{", b'"', b"\xff\xfe", b"\0", b"9" * 5000, b"1e999", b"-")
            )
        else:
            del raw[where:]
    return bytes(raw)


def main() -> None:
    """Run the cases, and print how many were read and refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))

    def too_long(*_: object) -> None:
        raise TimeoutError(f"took more than {SECONDS} s")

    signal.signal(signal.SIGALRM, too_long)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as root:
        readers = seeds(Path(root) / "seeds")
        for case in range(options.cases):
            name = list(readers)[case % len(readers)]
            place, files, read = readers[name]
            target = Path(root) / "case"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(place, target)
            file = target / rng.choice(files)
            file.write_bytes(changed(file.read_bytes(), rng))
            signal.alarm(SECONDS)
            try:
                read(target)
                counts["read"] += 1
            except SchedrlError as error:
                counts["refused"] += 1
                if "\n" in str(error) or len(str(error)) > 5000:
                    counts["failed"] += 1
                    print(f"case {case}, {name}: not one line: {str(error)[:200]!r}")
            except Exception:
                counts["failed"] += 1
                print(f"case {case}, {name}: {traceback.format_exc(limit=-3)}", flush=True)
            finally:
                signal.alarm(0)
    print(f"{options.cases} cases over {len(readers)} kinds of file: {dict(counts)}")
    sys.exit(bool(counts["failed"]))


if __name__ == "__main__":
    main()
