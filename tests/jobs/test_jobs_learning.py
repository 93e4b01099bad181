"""Learning a schedule for own images: small copies, a budget, exact resume, and a file for other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schedrl import data
from schedrl.cli.learn import minutes_of
from schedrl.data.own import Npz
from schedrl.errors import SchedrlError
from schedrl.export import ScheduleFile
from schedrl.jobs.learning import (
    LearningRequest,
    learned_schedule,
    measure_job,
    prepare,
    train_job,
    write_schedule,
)
from schedrl.jobs.proxy import make_proxy
from schedrl.policies.progress import TrainingProgress


def images(folder: Path, count: int = 90, side: int = 12) -> Npz:
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)
    np.savez(folder / "mine.npz", images=pixels)
    return Npz(path=str(folder / "mine.npz"))


def test_small_copies_are_means_of_pixels_and_split_without_overlap(tmp_path: Path) -> None:
    source = images(tmp_path)
    proxy = make_proxy(source, tmp_path, 4)
    assert (proxy.size, proxy.factor, proxy.count) == (4, 3, 90)
    assert proxy.logsnr_shift == pytest.approx(-2.0 * np.log(3.0))
    with np.load(tmp_path / "mine.npz") as given, np.load(tmp_path / "proxy.npz") as small:
        corner = given["images"][5, 3:6, 0:3].mean()
        assert abs(float(small["images"][5, 0, 1, 0]) - float(corner)) <= 0.5
    cut = data.load(proxy.data)
    assert (len(cut.train), len(cut.validation), len(cut.test)) == (60, 15, 15)


def test_too_few_images_or_images_that_are_all_alike_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match=r"--data: at least 60 images are needed .* \(got 20\)"):
        make_proxy(images(tmp_path, count=20), tmp_path)
    np.savez(tmp_path / "grey.npz", images=np.full((80, 8, 8), 7, np.uint8))
    with pytest.raises(SchedrlError, match="every pixel of every image is the same"):
        make_proxy(Npz(path=str(tmp_path / "grey.npz")), tmp_path)


def test_learning_goes_on_where_it_was_stopped_and_writes_a_file(tmp_path: Path) -> None:
    request = LearningRequest(data=images(tmp_path), runs=32, steps=3, proxy=4, seeds=2)
    whole = prepare(request, tmp_path / "whole")
    entry = train_job(whole)

    class StopError(Exception):
        """As a kill would."""

    def stop(progress: TrainingProgress) -> None:
        if progress.timesteps == 16:
            raise StopError

    broken = prepare(request, tmp_path / "broken")
    with pytest.raises(StopError):
        train_job(broken, stop)
    again = prepare(request, tmp_path / "broken")
    other = train_job(again)
    results = [measure_job(job, made) for job, made in ((whole, entry), (again, other))]
    bounds = [[result.test_bound for result in found] for found in results]
    assert bounds[0] == bounds[1]
    path = write_schedule(whole, results[0], tmp_path / "schedule.json")
    written = ScheduleFile.read(path)
    assert written.training is not None
    assert written.training.schedule == learned_schedule(whole, results[0])
    unmoved, moved = (
        np.array(learned_schedule(whole, results[0], shift=s).logsnr_values) for s in (False, True)
    )
    assert moved - unmoved == pytest.approx(-2.0 * np.log(3.0))
    with pytest.raises(SchedrlError, match=r"holds another job \(other steps\)"):
        prepare(request.model_copy(update={"steps": 4}), tmp_path / "whole")


def test_a_budget_buys_whole_updates_or_is_refused(tmp_path: Path) -> None:
    source = images(tmp_path)
    job = prepare(LearningRequest(data=source, minutes=2.0, steps=2, proxy=4, seeds=2), tmp_path / "enough")
    assert job.training.spec.total_timesteps % 16 == 0
    assert job.training.spec.total_timesteps >= 80
    with pytest.raises(SchedrlError, match=r"--budget: 0\.001 minutes are too few"):
        prepare(LearningRequest(data=source, minutes=0.001, steps=50, proxy=4, seeds=2), tmp_path / "little")


@pytest.mark.parametrize("text", ["", "10 years", "min", "0", "-3min"])
def test_budgets_that_are_no_time(text: str) -> None:
    with pytest.raises(SchedrlError, match="--budget: must be a time"):
        minutes_of(text)
