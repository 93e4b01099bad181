"""Random numbers: a function of seed and episode, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from schedrl.environments.sampling.problems import UniformStreams


def drawn(
    num_envs: int, env: int, seed: int, episodes: int, width: int = 3
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    streams = UniformStreams(num_envs, width)
    for other in range(num_envs):
        streams.seed(other, seed if other == env else 1000 + other)
    return np.stack([streams.draw(np.array([env]))[0] for _ in range(episodes)])


def test_neither_the_number_nor_the_place_of_environments_matters() -> None:
    alone = drawn(1, 0, seed=5, episodes=70)
    np.testing.assert_array_equal(drawn(9, 6, seed=5, episodes=70), alone)


def test_episodes_and_seeds_differ() -> None:
    rows = np.concatenate([drawn(1, 0, seed, episodes=70) for seed in (0, 1, 2**31)])
    assert len(np.unique(rows)) == rows.size
    assert (rows > 0.0).all()
    assert (rows < 1.0).all()


def test_environments_at_different_episodes() -> None:
    """One environment may be many episodes ahead of another, across a block of numbers."""
    streams = UniformStreams(2, 2)
    streams.seed(0, 3)
    streams.seed(1, 3)
    ahead = [streams.draw(np.array([0]))[0] for _ in range(40)]
    behind = [streams.draw(np.array([1]))[0] for _ in range(40)]
    np.testing.assert_array_equal(ahead, behind)


def test_peeking_draws_nothing() -> None:
    streams = UniformStreams(1, 2)
    streams.seed(0, 3)
    rows = np.array([0])
    first = streams.draw(rows)
    second = streams.peek(rows)
    np.testing.assert_array_equal(streams.peek(rows, ahead=-1), first)
    np.testing.assert_array_equal(streams.draw(rows), second)


@pytest.mark.parametrize("width", [0, 1])
def test_uniform(width: int) -> None:
    rows = drawn(1, 0, seed=1, episodes=500, width=width)
    assert rows.shape == (500, width)
    if width:
        assert abs(rows.mean() - 0.5) < 4.0 / np.sqrt(12 * 500)
