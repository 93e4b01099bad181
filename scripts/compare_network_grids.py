#!/usr/bin/env python
"""Tables of ``docs/network-sampling.md`` from a result file of ``benchmarks/network-digits.toml``.

    schedrl benchmark benchmarks/network-digits.toml -f runs/network-digits
    .venv/bin/python scripts/compare_network_grids.py runs/network-digits/results.jsonl

For each number of steps: the geometric mean over seeds of the mean squared distance to the network's own flow and of
the Frechet distance to the training images, and each agent's distance to the flow over that of ``grid-cosine`` on the
same noise, with 95 % bootstrap intervals over seeds.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from schedrl.benchmark.sampling.records import SamplingResult
from schedrl.benchmark.store import read_results
from schedrl.metrics.intervals import geometric_mean

DEFAULT = Path(__file__).parents[1] / "benchmarks" / "results" / "network-digits.jsonl"

YARDSTICK = "grid-cosine"


def main() -> None:
    """Print a table per number of steps, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("file", type=Path, nargs="?", default=DEFAULT)
    results = read_results(parser.parse_args().file, SamplingResult)
    for steps in sorted({result.num_steps for result in results}):
        agents: dict[str, dict[int, SamplingResult]] = defaultdict(dict)
        for result in results:
            if result.num_steps == steps:
                agents[result.agent][result.seed] = result
        table(steps, agents)


def table(steps: int, agents: dict[str, dict[int, SamplingResult]]) -> None:
    """One number of steps, the closest to the flow first."""
    base = agents[YARDSTICK]
    print(f"\n{steps} steps, {len(base)} seeds\n")
    print(f"| agent | distance to the flow | over {YARDSTICK}'s | Fréchet distance | over {YARDSTICK}'s |")
    print("|---|---|---|---|---|")
    rows = []
    for name, runs in agents.items():
        seeds = sorted(base.keys() & runs.keys())
        cells = [name]
        order = 0.0
        for part in ("teacher_mse", "frechet"):
            own = np.array([runs[seed].parts[part] for seed in seeds])
            ratio = own / np.array([base[seed].parts[part] for seed in seeds])
            value, against = (geometric_mean(each, np.random.default_rng(0)) for each in (own, ratio))
            order = order or value.value
            cells += [f"{value:.2e}" if part == "teacher_mse" else f"{value:.2f}", f"{against:.2f}"]
        rows.append((order, cells))
    for _, cells in sorted(rows):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
