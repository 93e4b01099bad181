#!/usr/bin/env python
"""Train the small network of ``schedrl/NetworkSampling-v0`` on the digits; writes schedrl/diffusion/weights/digits/.

    .venv/bin/python scripts/train_digits_network.py    # under three minutes on one core

It is what ``schedrl fit --data digits -n 3000 --set training.prediction_type=v`` trains: a v-prediction says something
at pure noise, where a few-step sampler starts. The quality of its samples goes into a result file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from schedrl import data
from schedrl.benchmark.fit.runner import claim, run_fit
from schedrl.benchmark.fit.spec import Cadence, FitSpec, fit_spec
from schedrl.benchmark.provenance import provenance
from schedrl.cli.common import ticker
from schedrl.diffusion.distributed import Processes, joined
from schedrl.diffusion.fitted import FittedModel
from schedrl.diffusion.single import Tuning
from schedrl.files import ensure_folder, write_text
from schedrl.metrics.quality import sample_quality
from schedrl.schedules import grid

ROOT = Path(__file__).parents[1]

STEPS, SAMPLES, SAMPLER_STEPS = 3000, 2048, 100


def main() -> None:
    """Train, write, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "-f", "--folder", type=Path, default=ROOT / "schedrl" / "diffusion" / "weights" / "digits"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "digits-network.json")
    options = parser.parse_args()
    spec = fit_spec(
        data.get("digits"),
        None,
        {"training.prediction_type": "v"},
        steps=STEPS,
        seed=options.seed,
        warmup_steps=100,
    )
    with tempfile.TemporaryDirectory() as working, joined("cpu") as processes:
        model = train(spec, Path(working), processes)
    model.save(ensure_folder(options.folder, "model folder"))
    found = measure(model, options.seed)
    command = f"scripts/train_digits_network.py --seed {options.seed}"
    write_text(options.json, json.dumps({"command": command, **found, **provenance()}, indent=2) + "\n")
    print(json.dumps(found))


def train(spec: FitSpec, folder: Path, processes: Processes) -> FittedModel:
    """The trained network."""
    claim(folder, spec)
    cadence = Cadence(eval_every=0, sample_every=0, checkpoint_every=STEPS)
    with ticker(spec.steps, "training", every=4) as tick:
        return run_fit(
            spec, folder, processes, Tuning(), cadence, lambda p: tick(p.step, f"loss {p.loss:.4f}")
        )


def measure(model: FittedModel, seed: int) -> dict[str, object]:
    """Distances of many samples to the training images and, for comparison, of the test images to them."""
    images = data.load(data.get("digits"))
    drawn = model.sample(SAMPLES, grid("tangent", SAMPLER_STEPS, gamma=0.3), seed=seed).numpy()
    own = sample_quality(drawn, images.train, "digits-cnn", np.random.default_rng(seed))
    test = sample_quality(images.test, images.train, "digits-cnn", np.random.default_rng(seed))
    few = sample_quality(drawn[: len(images.test)], images.train, "digits-cnn", np.random.default_rng(seed))
    return {
        "metric": own.frechet.name,
        "sampler": f"ddim, {SAMPLER_STEPS} steps of the tangent law, gamma 0.3",
        "frechet": own.frechet.value,
        "samples": own.samples,
        "reference_samples": own.reference_samples,
        "frechet_as_many_as_test_images": few.frechet.value,
        "frechet_of_test_images": test.frechet.value,
        "test_images": test.samples,
        "precision": own.precision_recall.precision,
        "recall": own.precision_recall.recall,
    }


if __name__ == "__main__":
    main()
