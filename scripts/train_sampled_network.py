#!/usr/bin/env python
"""Train a small network of ``schedrl/NetworkSampling-v0``; writes schedrl/diffusion/weights/NAME/.

    .venv/bin/python scripts/train_sampled_network.py digits     # under three minutes on one core
    .venv/bin/python scripts/train_sampled_network.py fashion    # about half an hour; needs Fashion-MNIST

It is what ``schedrl fit`` trains with ``--set training.prediction_type=v`` and the settings below: a v-prediction says
something at pure noise, where a few-step sampler starts. The quality of its samples goes into a result file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from schedrl import data
from schedrl.cli.common import ticker
from schedrl.diffusion.distributed import Processes, joined
from schedrl.diffusion.single import Tuning
from schedrl.diffusion.trained_models import FittedModel
from schedrl.files import ensure_folder, write_text
from schedrl.fit.fit_spec import Cadence, FitSpec, fit_spec
from schedrl.fit.fitting import claim, run_fit
from schedrl.metrics.sample_quality import sample_quality
from schedrl.provenance import provenance
from schedrl.schedules import grid

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Setting:
    """How one of the networks is trained and measured."""

    data: str
    steps: int
    features: str
    samples: int
    sampler_steps: int
    overrides: dict[str, Any] = field(default_factory=dict)


SETTINGS = {
    "digits": Setting("digits", 3000, "digits-cnn", 2048, 100),
    # Smaller than what `fit` takes for these images: it is sampled from hundreds of thousands of times.
    "fashion": Setting(
        "fashion-mnist",
        3000,
        "fashion-cnn",
        1024,
        50,
        {
            "training.network.channels": [16, 32, 48],
            "training.network.embedding": 32,
            "training.network.groups": 4,
            "training.optimizer.learning_rate": 2e-3,
        },
    ),
}


def main() -> None:
    """Train, write, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("name", choices=SETTINGS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-f", "--folder", type=Path, help="[schedrl/diffusion/weights/NAME]")
    parser.add_argument("--json", type=Path, help="[benchmarks/results/NAME-network.json]")
    options = parser.parse_args()
    setting = SETTINGS[options.name]
    spec = fit_spec(
        data.get(setting.data),
        None,
        {"training.prediction_type": "v", **setting.overrides},
        steps=setting.steps,
        seed=options.seed,
        warmup_steps=100,
    )
    with tempfile.TemporaryDirectory() as working, joined("cpu") as processes:
        model = train(spec, Path(working), processes)
    folder = options.folder or ROOT / "schedrl" / "diffusion" / "weights" / options.name
    model.save(ensure_folder(folder, "model folder"))
    found = measure(model, setting, options.seed)
    command = f"scripts/train_sampled_network.py {options.name} --seed {options.seed}"
    target = options.json or ROOT / "benchmarks" / "results" / f"{options.name}-network.json"
    write_text(target, json.dumps({"command": command, **found, **provenance()}, indent=2) + "\n")
    print(json.dumps(found))


def train(spec: FitSpec, folder: Path, processes: Processes) -> FittedModel:
    """The trained network."""
    claim(folder, spec)
    cadence = Cadence(eval_every=0, sample_every=0, checkpoint_every=spec.steps)
    with ticker(spec.steps, "training", every=4) as tick:
        return run_fit(
            spec, folder, processes, Tuning(), cadence, lambda p: tick(p.step, f"loss {p.loss:.4f}")
        )


def measure(model: FittedModel, setting: Setting, seed: int) -> dict[str, object]:
    """Distances of many samples to the training images and, for comparison, of the test images to them."""
    images, features = data.load(data.get(setting.data)), setting.features
    levels = grid("tangent", setting.sampler_steps, gamma=0.3)
    drawn = model.sample(setting.samples, levels, seed=seed).numpy()
    test_images = images.test[: setting.samples]
    own = sample_quality(drawn, images.train, features, np.random.default_rng(seed))
    test = sample_quality(test_images, images.train, features, np.random.default_rng(seed))
    few = sample_quality(drawn[: len(test_images)], images.train, features, np.random.default_rng(seed))
    return {
        "metric": own.frechet.name,
        "sampler": f"ddim, {setting.sampler_steps} steps of the tangent law, gamma 0.3",
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
