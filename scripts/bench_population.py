"""How fast populations train, against what anyone would write first; one JSON line per measurement.

    .venv/bin/python scripts/bench_population.py                     # digits on this CPU, E = 1, 4, 16, 64
    .venv/bin/python scripts/bench_population.py --case digits-wide --runs 16
    .venv/bin/python scripts/bench_population.py --device cuda --case digits --runs 1,16,256 --append FILE

Measured in turns, in one process, so that a busy machine hits all alike; the numbers are medians over ``--repeats``:

* ``population``: schedrl's, with E runs.
* ``loop`` (a): E plain modules, each trained by itself with eager autograd and fused Adam, with as many threads as is
  fastest.
* ``subprocesses`` (b): Stable-Baselines3's SubprocVecEnv of environments that train such a module, one thread each,
  with as many processes as is fastest. ``subprocesses-own`` is the same with schedrl's single environments.

A model-step is one optimizer step of one run. All of a phase of ``--phase`` steps counts: data, noise, optimizer and
the measurement of the validation bound (its time is measured once and shared out over the phase).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from bench_cases import CASES, Case  # beside this file, as is the next
from plain_training import PlainRun

import schedrl
from schedrl.diffusion.engines.engine import record
from schedrl.diffusion.noise import ScheduleNoise
from schedrl.diffusion.population import Population
from schedrl.metrics.variational_bound import Bound
from schedrl.provenance import hardware

_BURST = 0.7
"""Seconds that each form trains for at a time."""


def sync(device: str) -> None:
    """Wait for a GPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str) -> float:
    """Time of one call."""
    sync(device)
    began = time.perf_counter()
    work()
    sync(device)
    return time.perf_counter() - began


def peak_megabytes(device: str, *, reset: bool = False) -> float:
    """Most memory held since the last reset: of the GPU, or of this process."""
    if device.startswith("cuda"):
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    line = next(x for x in status.read_text(encoding="ascii").splitlines() if x.startswith("VmHWM"))
    return float(line.split()[1]) / 2**10


def matmul_gflops(device: str) -> float:
    """Best rate of one large float32 matrix product, tensor cores off: the ceiling that shares refer to."""
    size = 8192 if device.startswith("cuda") else 2048
    a = torch.randn(size, size, device=device)
    torch.mm(a, a)
    return max(2e-9 * size**3 / seconds(lambda: torch.mm(a, a), device) for _ in range(5))


def copy_gigabytes(device: str) -> float:
    """Bytes moved in a large copy, read and written, per second."""
    a = torch.zeros(2**28 if device.startswith("cuda") else 2**26, device=device)
    b = torch.empty_like(a)
    b.copy_(a)
    return max(8e-9 * a.numel() / seconds(lambda: b.copy_(a), device) for _ in range(5))


class Rival:
    """Something that trains: its time per model-step over a phase, repeat by repeat."""

    def __init__(self, name: str, runs: int, phase: int) -> None:
        self.name, self.runs, self.phase = name, runs, phase
        self.step: list[float] = []
        self.measure: list[float] = []

    def milliseconds(self) -> float:
        """A run and step, the measurement shared out."""
        whole = self.phase * float(np.median(self.step)) + float(np.median(self.measure))
        return 1e3 * whole / self.phase / self.runs


class PopulationRival(Rival):
    """schedrl's population."""

    def __init__(self, case: Case, runs: int, phase: int, device: str, bound: Bound) -> None:
        super().__init__("population", runs, phase)
        self.made = Population(case.spec, case.images(1000), runs, device)
        for run in range(runs):
            self.made.start(run, run)
        self.law = ScheduleNoise(np.tile(np.linspace(8.0, -6.0, 1025), (runs, 1)))
        self.bound, self.device = bound, device
        self.made.train(self.law, 1)  # warms up; on a GPU the step is captured
        one_step = seconds(lambda: self.made.train(self.law, 1), device)
        self.steps = max(2, min(25, int(_BURST / one_step)))

    def repeat(self) -> None:
        """Measure once."""
        steps = self.steps
        self.step.append(seconds(lambda: self.made.train(self.law, steps), self.device) / steps)
        value = seconds(lambda: self.bound.evaluate(self.made.predict_epsilon, self.runs), self.device)
        self.measure.append(value)


class LoopRival(Rival):
    """Form (a): one plain module after another."""

    def __init__(self, case: Case, runs: int, phase: int, device: str, bound: Bound, threads: int) -> None:
        super().__init__("loop", runs, phase)
        images = torch.from_numpy(case.images(1000)).to(device)
        self.models = [PlainRun(case.spec, images, seed) for seed in range(runs)]
        self.bound, self.device, self.threads = bound, device, threads
        self.models[0].train(2)
        one_step = runs * seconds(lambda: self.models[0].train(1), device)
        self.steps = max(1, int(_BURST / one_step))

    def repeat(self) -> None:
        """Measure once; the measurement of one model stands for all."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            self.models[0].train(1)  # warms up, as every form does
            time_of_all = seconds(lambda: [model.train(self.steps) for model in self.models], self.device)
            self.step.append(time_of_all / self.steps)
            one = self.models[0]
            value = seconds(lambda: self.bound.evaluate(one.predict_epsilon, 1), self.device)
            self.measure.append(value * self.runs)
        finally:
            torch.set_num_threads(before)


class PlainEnv(gym.Env[Any, Any]):
    """A single environment around a plain module: a step trains some optimizer steps and measures the bound."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, case: Case, steps: int, measured: bool) -> None:
        torch.set_num_threads(1)
        self.run = PlainRun(case.spec, torch.from_numpy(case.images(1000)), 0)
        self.bound = case.bound("cpu") if measured else None
        self.steps = steps

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Go on."""
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Train, measure."""
        self.run.train(self.steps)
        if self.bound is not None:
            self.bound.evaluate(self.run.predict_epsilon, 1)
        return np.zeros(1, np.float32), 0.0, False, False, {}


class OwnEnv(PlainEnv):
    """The same around a population of one."""

    def __init__(self, case: Case, steps: int, measured: bool) -> None:
        torch.set_num_threads(1)
        self.rival = PopulationRival(case, 1, 1, "cpu", case.bound("cpu"))
        self.steps, self.measured = steps, measured

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Train, measure."""
        self.rival.made.train(self.rival.law, self.steps)
        if self.measured:
            self.rival.bound.evaluate(self.rival.made.predict_epsilon, 1)
        return np.zeros(1, np.float32), 0.0, False, False, {}


class SubprocessRival(Rival):
    """Form (b): single environments in processes of their own; each has its share of the cores to itself."""

    def __init__(
        self,
        kind: type[PlainEnv],
        case: Case,
        processes: int,
        phase: int,
        one_step: float,
        burst: float = 0.6,
    ) -> None:
        name = "subprocesses" if kind is PlainEnv else "subprocesses-own"
        super().__init__(name, processes, phase)
        from stable_baselines3.common.vec_env import SubprocVecEnv

        # Long enough that waking the processes up is nothing beside it.
        self.steps = steps = max(2, int(_BURST / one_step))

        def maker(measured: bool) -> Callable[[], gym.Env[Any, Any]]:
            return lambda: kind(case, steps, measured)

        self.envs = [
            SubprocVecEnv([maker(measured)] * processes, start_method="forkserver")
            for measured in (False, True)
        ]
        self.actions = np.zeros((processes, 1), np.float32)
        for env in self.envs:
            env.reset()
            env.step(self.actions)

    def repeat(self) -> None:
        """Measure once: with and without the measurement, whose difference it is. A first call warms caches up."""
        for env in self.envs:
            env.step(self.actions)
        plain, measured = (seconds(lambda e=env: e.step(self.actions), "cpu") for env in self.envs)
        self.step.append(plain / self.steps)
        self.measure.append(max(0.0, measured - plain))

    def close(self) -> None:
        """End the processes."""
        for env in self.envs:
            env.close()


def time_in_ppo(runs: int) -> dict[str, float]:
    """Shares of one PPO update on ``schedrl/DigitsKnots-v0``: training runs, and everything else."""
    from schedrl.policies.ppo import PPOSpec, build, make_training_env

    spec = PPOSpec(num_envs=runs)
    env = make_training_env("schedrl/DigitsKnots-v0", spec, 0, **{"episode.steps_per_phase": 50})
    vector: Any = env
    while not hasattr(vector, "runs"):  # under PPO's wrappers and the adapter
        vector = vector.venv if hasattr(vector, "venv") else vector.env
    spent = [0.0]
    inner = vector.runs.train_phase

    def timed() -> Any:
        began = time.perf_counter()
        outcome = inner()
        spent[0] += time.perf_counter() - began
        return outcome

    vector.runs.train_phase = timed
    model = build(env, spec, 0)
    whole = seconds(lambda: model.learn(model.n_steps * runs), "cpu")
    return {"seconds": whole, "training_share": spent[0] / whole}


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--case", choices=sorted(CASES), default="digits")
    parser.add_argument("--runs", default="1,4,16,64", help="population sizes, e.g. 1,4,16,64,256")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--phase", type=int, default=200, help="optimizer steps between two measurements")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-subprocesses", action="store_true", help="leave (b) out")
    parser.add_argument("--ppo", action="store_true", help="also the shares of a PPO update (digits, CPU)")
    parser.add_argument("--append", type=Path, help="JSON lines file")
    options = parser.parse_args()
    case, device, phase = CASES[options.case], options.device, options.phase
    sizes = [int(word) for word in options.runs.split(",")]
    cores = torch.get_num_threads()
    subprocesses: list[SubprocessRival] = []
    if not options.no_subprocesses and device == "cpu":
        subprocesses = [
            SubprocessRival(kind, case, count, phase, one_step)
            for kind, one_step in _kinds(case, cores)
            for count in sorted({cores, 2 * cores})
        ]
    program = record(Population(case.spec, case.images(2), 1).network, case.shape, 1)
    flops = program.flops[1] * case.batch_size
    ceiling, bandwidth = matmul_gflops(device), copy_gigabytes(device)
    bound = case.bound(device)
    memory: dict[int, float] = {}
    rivals: list[Any] = [*subprocesses]
    models = min(max(sizes), 16)  # the cost of a loop is per model
    loop_threads = sorted({1, cores}) if device == "cpu" else [cores]
    rivals += [LoopRival(case, models, phase, device, bound, threads) for threads in loop_threads]
    for size in sizes:
        peak_megabytes(device, reset=True)
        rivals.append(PopulationRival(case, size, phase, device, bound))
        rivals[-1].repeat()
        memory[size] = peak_megabytes(device)  # of the whole process
        rivals[-1].step.clear()
        rivals[-1].measure.clear()
    for _ in range(options.repeats):
        for rival in rivals:
            rival.repeat()
    for rival in subprocesses:
        rival.close()

    fastest = {
        name: min(rival.milliseconds() for rival in rivals if rival.name == name)
        for name in ("loop", "subprocesses")
        if any(rival.name == name for rival in rivals)
    }
    processor = hardware(device)
    # A feature and its gradient are written once and read twice; Adam reads five rows and writes four.
    moved = 6 * 4 * program.features * case.batch_size + 9 * 4 * _parameters(case)
    lines = []
    for rival in rivals:
        each = rival.milliseconds()
        rate = 1e-6 * flops / (1e3 * float(np.median(rival.step)) / rival.runs)
        line: dict[str, Any] = {
            "case": options.case, "form": rival.name, "runs": rival.runs, "device": device, "hardware": processor,
            "threads": getattr(rival, "threads", 1 if rival in subprocesses else cores),
            "milliseconds": round(each, 4), "model_steps_per_second": round(1e3 / each, 1),
            "gflops": round(rate, 1), "matmul_gflops": round(ceiling, 1), "share_of_matmul": round(rate / ceiling, 3),
        }  # fmt: skip
        if isinstance(rival, PopulationRival):
            line["engine"] = rival.made.engine.name
            line["peak_megabytes"] = round(memory[rival.runs], 1)
            line |= {f"times_{name}": round(value / each, 2) for name, value in fastest.items()}
            roof = max(flops / ceiling, moved / bandwidth) * 1e-6
            line |= {
                "step_gflop": flops / 1e9,
                "step_megabytes": moved / 1e6,
                "copy_gigabytes": round(bandwidth, 1),
            }
            line["share_of_roofline"] = round(roof / (1e3 * float(np.median(rival.step)) / rival.runs), 3)
            if options.ppo and options.case == "digits" and device == "cpu" and rival.runs > 1:
                line["ppo"] = {key: round(value, 3) for key, value in time_in_ppo(rival.runs).items()}
        spread = [1e3 * value / rival.runs for value in rival.step]
        line |= {"steps_ms_min": round(min(spread), 4), "steps_ms_max": round(max(spread), 4)}
        line |= {"load": os.getloadavg()[0], "torch": torch.__version__, "schedrl": schedrl.__version__}
        lines.append(json.dumps(line))
        print(lines[-1], flush=True)
    if options.append is not None:
        with options.append.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)


def _kinds(case: Case, cores: int) -> list[tuple[type[PlainEnv], float]]:
    """What runs in processes, and about how long a step of it takes in one thread."""
    kinds: list[tuple[type[PlainEnv], float]] = []
    for kind in (PlainEnv, OwnEnv):
        env = kind(case, 2, measured=False)
        env.step(None)
        kinds.append((kind, seconds(lambda e=env: e.step(None), "cpu") / 2))
    torch.set_num_threads(cores)
    return kinds


def _parameters(case: Case) -> int:
    return Population(case.spec, case.images(2), 1).num_parameters


if __name__ == "__main__":
    main()
