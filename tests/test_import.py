"""Importing the package is cheap: it registers ids and leaves the heavy libraries alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HEAVY = {"matplotlib", "scipy", "sklearn", "stable_baselines3", "tensorboard", "torch", "torchvision"}

PROGRAM = """
import json, sys, time
start = time.process_time()
import schedrl
seconds = time.process_time() - start
import gymnasium
ids = [id for id in gymnasium.registry if id.startswith("schedrl/")]
print(json.dumps({"seconds": seconds, "modules": list(sys.modules), "ids": ids}))
"""


def _import() -> dict[str, Any]:
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def test_import_is_light() -> None:
    # Processor time, and the best of five: a busy machine slows some runs down, and nothing speeds one up.
    results = [_import() for _ in range(5)]
    assert "schedrl/DigitsKnots-v0" in results[0]["ids"]
    assert {module.partition(".")[0] for module in results[0]["modules"]} & HEAVY == set()
    assert min(result["seconds"] for result in results) < 0.5
