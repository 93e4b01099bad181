"""How fast one network trains, against diffusers' UNet2DModel in the loop of its own training script.

    .venv/bin/python scripts/bench_fit.py                                       # unet-akod-cifar10 on this CPU, batch 8
    .venv/bin/python scripts/bench_fit.py --device cuda --batch-size 64 --precision bf16 --compile --append FILE

Measured in turns, in one process, so that a busy machine hits all alike; the numbers are medians over ``--repeats``.
diffusers' network has about as many parameters (no attention, as ours; the widths that come closest), the same batch,
AdamW, clipping and average weights; its images are on the device already, where the script would load them from a
disk. Needs the extra ``export``. One JSON line per form:

* ``diffusers``: UNet2DModel, eager; ``diffusers-compiled`` with ``--compile``.
* ``plain`` and ``msfi``: this package's network without and with MSFI (and β modulation); ``-compiled`` likewise.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import schedrl
from schedrl import schedules
from schedrl.diffusion.distributed import Processes
from schedrl.diffusion.noise import ScheduleNoise
from schedrl.diffusion.single import SingleTraining, Tuning
from schedrl.diffusion.training_spec import TrainingSpec, named_network
from schedrl.provenance import hardware

_IMAGES = 256


def ours(
    training: TrainingSpec, images: Any, device: str, tuning: Tuning
) -> tuple[Callable[[int], object], int]:
    """This package's trainer: ``take(steps)`` and its parameters."""
    law = ScheduleNoise.of([schedules.get("cosine")], 1000, betas=True)
    made = SingleTraining(training, images, law, 0, Processes(0, 1, torch.device(device)), tuning)
    return made.train, made.num_parameters


def theirs(
    training: TrainingSpec, images: Any, device: str, tuning: Tuning, parameters: int
) -> tuple[Callable[[int], object], int]:
    """diffusers' network and scheduler in the steps of its script train_unconditional.py."""
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    def model(widths: tuple[int, ...]) -> Any:
        return UNet2DModel(
            sample_size=images.shape[-1], in_channels=images.shape[1], out_channels=images.shape[1],
            layers_per_block=1, block_out_channels=widths, norm_num_groups=32, add_attention=False,
            down_block_types=("DownBlock2D",) * len(widths), up_block_types=("UpBlock2D",) * len(widths),
        )  # fmt: skip

    base = training.network.channels
    best: tuple[float, Any] | None = None
    for scale in itertools.count(1):
        widths = tuple(32 * max(1, round(width * scale / 32 / 16)) for width in base)
        with torch.device("meta"):
            count = sum(p.numel() for p in model(widths).parameters())
        miss = abs(count / parameters - 1.0)
        if best is None or miss < best[0]:
            best = (miss, widths)
        if count > 1.5 * parameters:
            break
    assert best is not None
    network = model(best[1]).to(device)
    if tuning.channels_last:
        network = network.to(memory_format=torch.channels_last)
    count = sum(p.numel() for p in network.parameters())
    module = torch.compile(network) if tuning.compile else network
    spec = training.optimizer
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=spec.learning_rate,
        betas=spec.betas,
        weight_decay=spec.weight_decay,
        eps=spec.eps,
    )
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    average = EMAModel(network.parameters(), decay=training.ema_decay, use_ema_warmup=True)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    held = torch.from_numpy(images).to(device)

    def take(steps: int) -> None:
        for _ in range(steps):
            clean = held[torch.randint(0, len(held), (training.batch_size,), device=device)]
            noise = torch.randn(clean.shape, device=device)
            at = torch.randint(0, 1000, (len(clean),), device=device).long()
            noised = scheduler.add_noise(clean, noise, at)
            with torch.autocast(
                torch.device(device).type, torch.bfloat16, enabled=tuning.precision == "bf16"
            ):
                predicted = module(noised, at).sample
            functional.mse_loss(predicted.float(), noise.float()).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            average.step(network.parameters())

    return take, count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="unet-akod-cifar10")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--compile", action="store_true", help="measure compiled forms, too")
    parser.add_argument("--steps", type=int, default=2, help="optimizer steps of one measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--append", type=Path, help="file that the lines go to")
    options = parser.parse_args()

    named = named_network(options.network)
    clipped = named.training.optimizer.model_copy(update={"max_gradient_norm": 1.0})
    full = named.training.model_copy(update={"batch_size": options.batch_size, "optimizer": clipped})
    bare = full.network.model_copy(update={"msfi": None, "modulation": False})
    plain = full.model_copy(update={"network": bare})
    images = np.random.default_rng(0).uniform(-1, 1, (_IMAGES, *named.image_shape)).astype(np.float32)
    gpu = options.device.startswith("cuda")
    forms: dict[str, tuple[Callable[[int], object], int]] = {}
    for compiled in (False, True) if options.compile else (False,):
        tuning = Tuning(precision=options.precision, compile=compiled, channels_last=gpu)
        end = "-compiled" if compiled else ""
        forms[f"plain{end}"] = ours(plain, images, options.device, tuning)
        forms[f"msfi{end}"] = ours(full, images, options.device, tuning)
        forms[f"diffusers{end}"] = theirs(plain, images, options.device, tuning, forms[f"plain{end}"][1])

    def seconds(take: Callable[[int], object]) -> float:
        if gpu:
            torch.cuda.synchronize()
        began = time.perf_counter()
        take(options.steps)
        if gpu:
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / options.steps

    for take, _ in forms.values():  # compiles, allocates, chooses algorithms
        take(2)
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(options.repeats):
        for name, (take, _) in forms.items():
            times[name].append(seconds(take))
    median = {name: float(np.median(values)) for name, values in times.items()}
    rival = min(value for name, value in median.items() if name.startswith("diffusers"))
    lines = []
    for name, (_, count) in forms.items():
        lines.append(
            json.dumps({
                "network": options.network, "form": name, "parameters": count, "batch_size": options.batch_size,
                "precision": options.precision, "images_per_second": round(options.batch_size / median[name], 2),
                "step_ms": round(1e3 * median[name], 2), "step_ms_min": round(1e3 * min(times[name]), 2),
                "step_ms_max": round(1e3 * max(times[name]), 2), "times_diffusers": round(rival / median[name], 3),
                "device": options.device, "hardware": hardware(options.device), "load": os.getloadavg()[0],
                "torch": torch.__version__, "schedrl": schedrl.__version__,
            })
        )  # fmt: skip
        print(lines[-1], flush=True)
    if options.append is not None:
        with options.append.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
