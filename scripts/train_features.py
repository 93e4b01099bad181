"""Train the small classifiers whose features Fréchet distances are taken over; writes schedrl/metrics/weights/.

    .venv/bin/python scripts/train_features.py --data digits
    .venv/bin/python scripts/train_features.py --data fashion-mnist    # needs the files, see README

The training images of the set's default split, from a seed; the test images give the accuracy on the card.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch.nn import functional

from schedrl import data
from schedrl.cli.common import ticker
from schedrl.files import write_bytes, write_text
from schedrl.metrics.features import Classifier, ClassifierCard

SETTINGS = {
    "digits": ("digits-cnn", (16, 32, 32), 32, 60, 64),
    "fashion-mnist": ("fashion-cnn", (16, 32, 32), 64, 6, 128),
}
"""Name, widths, dimension, epochs, batch size."""


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", choices=sorted(SETTINGS), required=True)
    parser.add_argument("--seed", type=int, default=0)
    folder = Path(__file__).parents[1] / "schedrl" / "metrics" / "weights"
    parser.add_argument("-f", "--folder", type=Path, default=folder)
    options = parser.parse_args()
    name, widths, dimension, epochs, batch = SETTINGS[options.data]
    images = data.load(data.get(options.data))
    assert images.labels is not None
    rng = np.random.default_rng(options.seed)
    network = Classifier(images.image_shape, widths, dimension)
    generator = torch.Generator().manual_seed(options.seed)
    for parameter in network.parameters():
        fan = parameter[0].numel() if parameter.dim() > 1 else 1
        std = (2.0 / fan) ** 0.5 if parameter.dim() > 1 else 0.0
        parameter.data = std * torch.randn(parameter.shape, generator=generator)
    train, labels = (
        torch.from_numpy(np.array(images.train)),
        torch.from_numpy(np.array(images.labels["train"])),
    )
    steps = epochs * (len(train) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    done = 0
    with ticker(steps, options.data, every=200) as tick:
        for _ in range(epochs):
            order = torch.from_numpy(rng.permutation(len(train)))
            for part in order.split(batch)[: len(train) // batch]:
                loss = functional.cross_entropy(network(train[part]), labels[part], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                done += 1
                tick(done, f"loss {loss.item():.3f}")
    with torch.no_grad():
        guesses = network(torch.from_numpy(np.array(images.test))).argmax(dim=1).numpy()
    card = ClassifierCard(
        data=options.data, data_fingerprint=images.fingerprint(), image_shape=images.image_shape, widths=widths,
        dimension=dimension, test_accuracy=round(float((guesses == images.labels["test"]).mean()), 4),
        command=f"scripts/train_features.py --data {options.data} --seed {options.seed}", seed=options.seed,
    )  # fmt: skip
    write_bytes(options.folder / f"{name}.safetensors", save(network.state_dict()))
    write_text(options.folder / f"{name}.json", card.model_dump_json(indent=2) + "\n")
    print(card.model_dump_json())


if __name__ == "__main__":
    main()
