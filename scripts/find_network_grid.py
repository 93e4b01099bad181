#!/usr/bin/env python
"""Search one grid for each number of steps of NetworkSampling; writes benchmarks/agents/network-NAME-found.toml.

CMA-ES from the environment's reference, on one starting noise of many images, which no benchmark measures on. So what
it finds stands for the network and not for the noise that it is compared on. About four minutes on one core.

    .venv/bin/python scripts/find_network_grid.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from schedrl.environments.registration import sampling_variant
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.files import write_text
from schedrl.policies.grid_search import CMAESGridSearch

ENV, SEED = "schedrl/NetworkSampling-v0", 7

AGENTS = Path(__file__).parents[1] / "benchmarks" / "agents"

STEPS = (5, 10, 20)


def main() -> None:
    """Search, say what it is worth, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("network", help="of the package, or a folder of `schedrl fit`")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("-f", "--file", type=Path, help="[benchmarks/agents/network-NAME-found.toml]")
    options = parser.parse_args()
    network = options.network
    target = options.file or AGENTS / f"network-{Path(network).name}-found.toml"
    spent = f"{options.evaluations} sampler runs of {options.images} images for each number of steps"
    lines = [
        f"# Made by scripts/find_network_grid.py {network}: {spent}, seed {SEED}.",
        'name = "grid-found"',
        'kind = "grid"',
        f'description = "CMA-ES on noise of its own, {spent}"',
        "",
        "[plan]",
        'name = "levels"',
    ]
    for steps in STEPS:
        changes = {
            "source": {"kind": "network", "model": network, "images": options.images},
            "steps": {"minimum": steps, "maximum": steps},
        }
        problems = SamplingProblems.drawn(sampling_variant(ENV, changes), [SEED])
        found = CMAESGridSearch(evaluations=options.evaluations).find(problems, [np.random.default_rng(SEED)])
        ratio = float((problems.error(found.sigmas) / problems.error(problems.reference()))[0])
        print(
            f"{steps} steps: {ratio:.3f} of the reference's error, on the noise it was searched on",
            flush=True,
        )
        levels = ", ".join("inf" if np.isinf(level) else f"{level:.6g}" for level in found.sigmas[0])
        lines += ["", "[[plan.levels]]", f"sigmas = [{levels}]"]
    write_text(target, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
