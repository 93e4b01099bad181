#!/usr/bin/env python
"""Tables of ``docs/results/network-sampling.md`` from a result file of ``benchmarks/network-digits.toml``.

    schedrl benchmark benchmarks/network-digits.toml -f runs/network-digits
    .venv/bin/python scripts/compare_network_grids.py runs/network-digits/results.jsonl
    .venv/bin/python scripts/compare_network_grids.py --gaussian fashion

For each number of steps: the geometric mean over seeds of the mean squared distance to the network's own flow and of
the Frechet distance to the training images, and each agent's distance to the flow over that of ``grid-cosine`` on the
same noise, with 95 % bootstrap intervals over seeds. With ``--gaussian``, what a Gaussian with the spectrum of a
network's images says of the same grids, in 5 steps, and the error of the network's fine-grid flow.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from schedrl.benchmark.results import SamplingResult
from schedrl.benchmark.store import read_results
from schedrl.diffusion.trained_models import find_model
from schedrl.environments.registration import sampling_variant
from schedrl.environments.sampling.gaussian_source import image_spectrum
from schedrl.environments.sampling.network_source import NetworkSource, shared_network
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.policies.agents import catalogue
from schedrl.sources.gaussian.divergences import kl
from schedrl.sources.gaussian.flow import flow_distance
from schedrl.sources.gaussian.recursions import output_variances
from schedrl.stats.intervals import geometric_mean

DEFAULT = Path(__file__).parents[1] / "benchmarks" / "results" / "network-digits.jsonl"

ENV, YARDSTICK = "schedrl/NetworkSampling-v0", "grid-cosine"


def main() -> None:
    """Print a table per number of steps, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("file", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--gaussian", metavar="NETWORK", help="the Gaussian's own numbers instead")
    options = parser.parse_args()
    if options.gaussian is not None:
        gaussian_table(options.gaussian)
        return
    results = read_results(options.file, SamplingResult)
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


def gaussian_table(network: str) -> None:
    """Divergence and distance to the flow, per pixel, of each closed-form grid; then the teacher's own error."""
    small = NetworkSource(model=network, images=32)
    changes = {"source": small.model_dump(mode="json"), "steps": {"minimum": 5, "maximum": 5}}
    problems = SamplingProblems.drawn(sampling_variant(ENV, changes), [0])
    model = find_model(network)
    if model.data is None:
        raise SystemExit(f"network '{network}': does not say what it was trained on")
    spectrum = image_spectrum(model.data, small.floor)
    share = len(spectrum) / np.prod(model.image_shape)
    rows = []
    for name, agent in catalogue().items():
        if name.startswith("grid-"):
            levels = agent.solve(problems).sigmas[0]
            ratio = output_variances(spectrum, levels, "ddim") / spectrum
            rows.append((flow_distance(spectrum, levels) * share, float(kl(ratio)), name))
    print("| grid | divergence (nats) | distance to the flow, Gaussian |\n|---|---|---|")
    for distance, divergence, name in sorted(rows):
        print(f"| `{name}` | {divergence:.3g} | {distance:.1e} |")
    one = np.array([5])
    coarse, fine = (
        shared_network(small.model_copy(update={"teacher_steps": n})).teacher(one) for n in (32, 160)
    )
    print(f"\nthe flow in 32 steps is off that in 160 by {np.square(coarse - fine).mean():.1e} per pixel")


if __name__ == "__main__":
    main()
