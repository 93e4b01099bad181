"""Train a small diffusers pipeline with diffusers' own loop and nothing of this package, as a network to try.

    python scripts/train_checkpoint.py fashion --prediction epsilon -o runs/checkpoints/fashion-epsilon
    python scripts/train_checkpoint.py digits --prediction v_prediction -o runs/checkpoints/digits-v

The images are 32x32 and grey: Fashion-MNIST padded from 28x28 (its folder is $SCHEDRL_DATA), or scikit-learn's digits
enlarged from 8x8. The network is a `UNet2DModel` of 0.4 million parameters. With v-prediction the schedule is rescaled
to zero terminal SNR. 2,400 steps of 64 images take about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import gzip
import os
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler, UNet2DModel
from torch.nn import functional


def digits() -> torch.Tensor:
    """[1797, 1, 32, 32] in [-1, 1]."""
    from sklearn.datasets import load_digits

    images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8.0 - 1.0
    return functional.interpolate(images, size=32, mode="bilinear", align_corners=False)


def fashion() -> torch.Tensor:
    """[60000, 1, 32, 32] in [-1, 1]."""
    root = Path(os.environ.get("SCHEDRL_DATA", "data"))
    raw = (root / "FashionMNIST" / "raw").glob("train-images-idx3-ubyte*")
    path = next(iter(sorted(raw)))
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    images = (
        np.frombuffer(content, np.uint8, offset=16).reshape(-1, 1, 28, 28).astype(np.float32) / 127.5 - 1.0
    )
    return functional.pad(torch.from_numpy(images), (2, 2, 2, 2), value=-1.0)


def main() -> None:
    """Train, and save the pipeline."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=("digits", "fashion"))
    parser.add_argument("--prediction", choices=("epsilon", "v_prediction", "sample"), default="epsilon")
    parser.add_argument(
        "--schedule", choices=("linear", "scaled_linear", "squaredcos_cap_v2"), default="linear"
    )
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()

    generator = torch.Generator().manual_seed(options.seed)
    images = digits() if options.data == "digits" else fashion()
    with torch.random.fork_rng():
        torch.random.manual_seed(options.seed)
        network = UNet2DModel(
            sample_size=32,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=(16, 32, 48),
            norm_num_groups=8,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        )
    settings = {
        "num_train_timesteps": 1000,
        "beta_schedule": options.schedule,
        "prediction_type": options.prediction,
        "rescale_betas_zero_snr": options.prediction == "v_prediction",
        "clip_sample": False,
    }
    scheduler = DDPMScheduler(**settings)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    print(f"{sum(p.numel() for p in network.parameters()):,} parameters, {len(images):,} images", flush=True)
    network.train()
    for step in range(1, options.steps + 1):
        clean = images[torch.randint(len(images), (options.batch,), generator=generator)]
        noise = torch.randn(clean.shape, generator=generator)
        t = torch.randint(1000, (options.batch,), generator=generator)
        noisy = scheduler.add_noise(clean, noise, t)
        if options.prediction == "epsilon":
            wanted = noise
        elif options.prediction == "sample":
            wanted = clean
        else:
            wanted = scheduler.get_velocity(clean, noise, t)
        loss = functional.mse_loss(network(noisy, t).sample, wanted)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if step % 100 == 0:
            print(f"step {step} of {options.steps}: loss {float(loss):.4f}", flush=True)
    sampler = DDIMScheduler(**settings, timestep_spacing="leading", set_alpha_to_one=True)
    DDIMPipeline(network.eval(), sampler).save_pretrained(options.out)
    print(f"saved {options.out}")


if __name__ == "__main__":
    main()
