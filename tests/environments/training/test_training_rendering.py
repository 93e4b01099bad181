"""Pictures of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schedrl.environments.training.rendering import sample_images, tile


def test_ansi_is_one_line(make_single: Any, kind: str) -> None:
    env = make_single(kind, render_mode="ansi")
    env.reset(seed=0)
    before = env.render()
    assert "phase 0/2" in before
    assert "schedule none yet" in before
    env.action_space.seed(0)
    for _ in range(env.variant.action.num_knots):
        env.step(env.action_space.sample())
    line = env.render()
    assert isinstance(line, str)
    assert "\n" not in line
    assert line.startswith(env.variant.id)
    assert "phase 1/2" in line
    assert f"bound {env.vector.runs.current[0]:.3f} bits/dim" in line
    assert f"schedule {env.vector.runs.history[0][-1].name}" in line
    assert f"loss {env.vector.runs.losses[0][-1][-1]:.4f}" in line


def test_rgb_array(make_vector: Any) -> None:
    env = make_vector("knots", 2, render_mode="rgb_array")
    env.reset(seed=0)
    pictures = [env.render()]
    env.step(np.zeros((2, 5), np.float32))
    pictures.append(env.render())
    for frames in pictures:
        assert len(frames) == 2
        for frame in frames:
            assert frame.dtype == np.uint8
            assert frame.shape == pictures[0][0].shape
            assert frame.shape[2] == 3
            assert frame.std() > 10  # something is drawn
    assert not np.array_equal(pictures[0][0], pictures[1][0])


def test_no_mode_no_picture(make_vector: Any, make_single: Any) -> None:
    assert make_vector("knots", 1).render() is None
    assert make_single("knots").render() is None


def test_looking_changes_nothing(make_vector: Any) -> None:
    calm, watched = make_vector("kernel", 2), make_vector("kernel", 2, render_mode="ansi")
    calm.action_space.seed(0)
    actions = [calm.action_space.sample() for _ in range(8)]
    rewards: list[np.ndarray] = []
    for env in (calm, watched):
        env.reset(seed=3)
        found = []
        for action in actions:
            env.render()
            found.append(env.step(action)[1])
        rewards.append(np.stack(found))
    np.testing.assert_array_equal(rewards[0], rewards[1])


def test_a_lost_run_can_be_drawn(make_single: Any) -> None:
    env = make_single("knots", render_mode="rgb_array", **{"training.optimizer.learning_rate": 10.0})
    env.reset(seed=0)
    env.vector.runs.population.weights[:] = np.nan
    _, _, _, _, info = env.step(np.zeros(5, np.float32))
    assert info["diverged"]
    assert env.render().dtype == np.uint8


@pytest.mark.parametrize("prediction_type", ["epsilon", "x0", "v"])
def test_samples(make_vector: Any, prediction_type: str) -> None:
    env = make_vector("knots", 2, **{"training.prediction_type": prediction_type})
    env.reset(seed=0)
    env.step(np.zeros((2, 5), np.float32))
    images = sample_images(env.runs, 3)
    assert images.shape == (2, 3, 1, 8, 8)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1.0
    np.testing.assert_array_equal(images, sample_images(env.runs, 3))
    assert not np.array_equal(images[0], images[1])


def test_tiles() -> None:
    grey = (np.arange(5) / 10.0).astype(np.float32).reshape(5, 1, 1, 1)
    expected = np.array([[0.0, 0.1, 0.2], [0.3, 0.4, -1.0]], np.float32)
    np.testing.assert_allclose(tile(grey, columns=3), expected)
    height, width = grey.shape[2:]
    spaced = tile(grey, columns=3, gap=1)
    np.testing.assert_allclose(spaced[:height, width + 1 : 2 * width + 1], grey[1, 0])
    assert (spaced[height] == 0.0).all()
    colour = np.zeros((2, 3, 2, 2), np.float32)
    colour[1, 0] = 1.0  # the second picture is red
    sheet = tile(colour, columns=2)
    assert sheet.shape == (2, 4, 3)
    np.testing.assert_allclose(sheet[:, :2], 0.5)
    np.testing.assert_allclose(sheet[:, 2:], np.broadcast_to([1.0, 0.5, 0.5], (2, 2, 3)))
