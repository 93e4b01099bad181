"""Training: fixed by its seed, and resumed exactly wherever it was interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from schedrl.benchmark.families import checked
from schedrl.benchmark.tasks import Part
from schedrl.environments.registration import training_variant
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.errors import AgentFileError, SchedrlError
from schedrl.policies.agent_files import load_agent, read_description
from schedrl.policies.agents import find
from schedrl.policies.ppo_training import (
    TrainingRequest,
    new_folder,
    request_for,
    resume,
    train,
)
from schedrl.policies.progress import TrainingProgress, append_progress, read_progress, trim_progress

KNOTS, KERNEL = "schedrl/DigitsKnots-v0", "schedrl/DigitsKernel-v0"

WEIGHTS = "policy.safetensors"


@pytest.fixture
def request_of(tiny: dict[str, Any]) -> Callable[..., TrainingRequest]:
    def make(env_id: str = KNOTS, seed: int = 3, updates: int = 4, anneal: bool = True) -> TrainingRequest:
        overrides = dict(tiny)
        length = 1
        if env_id == KERNEL:
            overrides |= {"action.knots": 3, "action.num_train_timesteps": 30}
            length = 3
        steps = 2 * length * updates
        return request_for(env_id, seed, overrides, num_envs=2, total_timesteps=steps, anneal=anneal)

    return make


def curve(folder: Path) -> list[tuple[int, float, float]]:
    return [(row.timesteps, row.return_mean, row.return_std) for row in read_progress(folder)]


def interrupt_after(updates: int) -> Callable[[TrainingProgress], None]:
    seen: list[TrainingProgress] = []

    def listen(progress: TrainingProgress) -> None:
        seen.append(progress)
        if len(seen) == updates:
            raise KeyboardInterrupt

    return listen


def test_a_seed_fixes_a_training(request_of: Callable[..., TrainingRequest], tmp_path: Path) -> None:
    first, second, third = (
        (train(request_of(seed=seed, updates=2), tmp_path / str(index)) / WEIGHTS).read_bytes()
        for index, seed in enumerate((3, 3, 4))
    )
    assert first == second
    assert first != third


@pytest.mark.parametrize("env_id", [KNOTS, KERNEL])
@pytest.mark.parametrize("where", ["first rollout", "between updates", "in a rollout", "in an update"])
def test_an_interrupted_training_ends_as_if_nothing_had_happened(
    env_id: str,
    where: str,
    request_of: Callable[..., TrainingRequest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = request_of(env_id)
    whole = train(request, tmp_path / "whole")
    part, listen, done = tmp_path / "part", None, 2
    if where == "between updates":
        listen = interrupt_after(2)
    elif where == "in an update":
        fail_at(monkeypatch, torch.optim.Adam, "step", 2 * request.spec.n_epochs + 3)
    else:
        done = 0 if where == "first rollout" else 2
        fail_at(monkeypatch, TrainingVectorEnv, "step", 1 if done == 0 else (3 if env_id == KNOTS else 8))
    with pytest.raises(KeyboardInterrupt):
        train(request, part, listen)
    monkeypatch.undo()
    description = read_description(part)
    assert description.timesteps == done * request.spec.total_timesteps // 4
    assert load_agent(part).description == description
    resume(part)
    assert (part / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert curve(part) == curve(whole)
    assert read_description(part).timesteps == request.spec.total_timesteps


def fail_at(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, call: int) -> None:
    """Make the given call of a method an interrupt, after its work was done."""
    original, calls = getattr(owner, name), [0]

    def interrupted(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        result = original(*arguments, **keywords)
        if calls[0] == call:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, interrupted)


def test_an_interrupted_update_leaves_the_last_whole_one(
    request_of: Callable[..., TrainingRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At a constant rate a training is the beginning of any longer one.
    train(request_of(updates=2, anneal=False), tmp_path / "two")
    request = request_of(updates=4, anneal=False)
    fail_at(monkeypatch, torch.optim.Adam, "step", 2 * request.spec.n_epochs + 3)
    with pytest.raises(KeyboardInterrupt):
        train(request, tmp_path / "part")
    assert (tmp_path / "part" / WEIGHTS).read_bytes() == (tmp_path / "two" / WEIGHTS).read_bytes()


def test_a_longer_end_is_the_longer_training(
    request_of: Callable[..., TrainingRequest], tmp_path: Path
) -> None:
    longer = train(request_of(updates=4, anneal=False), tmp_path / "longer")
    folder = train(request_of(updates=2, anneal=False), tmp_path / "extended")
    with pytest.raises(KeyboardInterrupt):
        resume(folder, 8, interrupt_after(1))
    resume(folder)  # the new end is remembered
    assert (folder / WEIGHTS).read_bytes() == (longer / WEIGHTS).read_bytes()


def test_the_rate_falls_to_zero(
    request_of: Callable[..., TrainingRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.Adam.step

    def noted(optimizer: torch.optim.Adam, *arguments: Any) -> Any:
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    request = request_of(updates=4)
    train(request, tmp_path / "run")
    each = rates[:: request.spec.n_epochs]
    assert each == pytest.approx([request.spec.learning_rate * left for left in (0.75, 0.5, 0.25, 0.0)])


def test_progress_is_told_and_kept(request_of: Callable[..., TrainingRequest], tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    folder = train(request_of(updates=3), tmp_path / "run", seen.append)
    assert [progress.timesteps for progress in seen] == [2, 4, 6]
    rows = read_progress(folder)
    assert [row.timesteps for row in rows] == [2, 4, 6]
    assert [row.return_mean for row in rows] == pytest.approx([p.return_mean for p in seen], abs=1e-6)
    assert all(row.return_std > 0.0 for row in rows)
    assert [row.seconds for row in rows] == sorted(row.seconds for row in rows)
    assert list((folder / "tensorboard").iterdir())


def test_training_never_looks_at_test_images(tiny: dict[str, Any]) -> None:
    from schedrl.policies.ppo import make_training_env, ppo_spec

    env = make_training_env(KNOTS, ppo_spec(KNOTS, num_envs=2), 0, **tiny)
    assert env.get_attr("variant", 0)[0].test_bound is None
    env.close()


def test_folders_are_numbered(request_of: Callable[..., TrainingRequest], tmp_path: Path) -> None:
    made = [new_folder(tmp_path, "ppo", request_of()) for _ in range(2)]
    assert [folder.name for folder in made] == ["DigitsKnots-v0_1", "DigitsKnots-v0_2"]
    assert sorted((tmp_path / "ppo").iterdir()) == made


def test_a_new_folder_can_be_resumed_from_its_first_moment(
    request_of: Callable[..., TrainingRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        new_folder(tmp_path, "ppo", request_of(updates=1))
    monkeypatch.undo()
    assert not list(tmp_path.glob("ppo/[!.]*")), "absent before it can be resumed"
    folder = new_folder(tmp_path, "ppo", request_of(updates=1))
    assert list((tmp_path / "ppo").iterdir()) == [folder], "what the kill left is gone"
    with pytest.raises(
        AgentFileError, match=r"has not finished training: there is no agent\.json; .*--resume"
    ):
        find(str(folder), KNOTS).acts_in(training_variant(KNOTS, request_of().overrides))
    resume(folder)
    assert read_description(folder).unfinished is None
    assert not (folder / ".lock").exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_agent_that_has_not_finished_training_says_so(
    request_of: Callable[..., TrainingRequest], tmp_path: Path, stop: signal.Signals
) -> None:
    folder = new_folder(tmp_path, "ppo", request_of(updates=3, anneal=False))
    script = """
import os, pathlib, sys
import schedrl
from schedrl.policies.ppo_training import resume
resume(pathlib.Path(sys.argv[1]), listen=lambda _: os.kill(os.getpid(), int(sys.argv[2])))
"""
    subprocess.run(
        [sys.executable, "-c", script, str(folder), str(int(stop))], check=False, capture_output=True
    )
    if stop == signal.SIGINT:
        assert "2 of 6 steps" in str(read_description(folder).unfinished)
        variant, agents = training_variant(KNOTS, request_of().overrides), {"mine": find(str(folder), KNOTS)}
        part = checked(Part(variant, agents, (1_000_000,), ("exact",)))
        assert any("agent 'mine' has not finished training: 2 of 6 steps" in text for text in part.notes)
    else:
        with pytest.raises(AgentFileError, match=r"has not finished training: there is no agent\.json"):
            load_agent(folder)
    resume(folder)
    whole = train(request_of(updates=3, anneal=False), tmp_path / "whole")
    assert (folder / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert curve(folder) == curve(whole)
    with pytest.raises(KeyboardInterrupt):
        resume(folder, 10, interrupt_after(1))
    assert "8 of 10 steps" in str(read_description(folder).unfinished)


def test_a_training_is_done_by_one_process(
    request_of: Callable[..., TrainingRequest], tmp_path: Path
) -> None:
    folder = new_folder(tmp_path, "ppo", request_of(updates=2))

    def second(_: TrainingProgress) -> None:
        with pytest.raises(SchedrlError, match=rf"^{folder}: process {os.getpid()} on .* works there"):
            resume(folder)

    resume(folder, listen=second)
    assert len(curve(folder)) == 2


def test_a_folder_that_cannot_be_made_is_refused_before_training(
    request_of: Callable[..., TrainingRequest], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SchedrlError, match=r"output folder .*: cannot be written"):
        train(request_of(), tmp_path / "file" / "run")


@pytest.mark.parametrize("name", ["training.json", "checkpoint.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "noise"])
def test_damage_is_noticed_on_resuming(
    name: str, damage: str, request_of: Callable[..., TrainingRequest], tmp_path: Path
) -> None:
    folder = train(request_of(updates=1), tmp_path / "run")
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:50] if damage == "truncated" else b"\x00noise")
    with pytest.raises(AgentFileError, match=name) as caught:
        resume(folder, 8)
    assert "\n" not in str(caught.value)


def test_a_curve_survives_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def interrupted(*paths: Any) -> None:
        replace(*paths)
        raise KeyboardInterrupt

    assert read_progress(tmp_path) == []
    rows = [TrainingProgress(step, 0.5 * step, 1.25, 0.125) for step in (2, 4, 6)]
    for row in rows:
        append_progress(tmp_path, row)
    assert read_progress(tmp_path) == rows
    path = tmp_path / "progress.csv"
    path.write_text(path.read_text() + "8,4.0,1.")
    assert read_progress(tmp_path) == rows
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trim_progress(tmp_path, 4)
    assert read_progress(tmp_path) == rows[:2]
    path.write_text(path.read_text() + "8,nan,1.0,1.0\n")
    with pytest.raises(AgentFileError, match="line 4 is damaged"):
        read_progress(tmp_path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(AgentFileError, match="must begin with 'timesteps"):
        read_progress(tmp_path)
