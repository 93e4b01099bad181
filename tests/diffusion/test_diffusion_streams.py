"""A run's random numbers: fixed by its seed and the step count, by nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedrl.diffusion.run_stream import RunStream

SHAPE = (1, 2, 2)


def drawn(stream: RunStream, blocks: list[int]) -> list[np.ndarray]:
    """Indices, levels and noise of all blocks, joined."""
    parts = [(stream.indices(n), stream.levels(n), stream.noise(n, SHAPE)) for n in blocks]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def assert_same(left: list[np.ndarray], right: list[np.ndarray]) -> None:
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


@given(
    blocks=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    batch_size=st.integers(1, 9),
    num_images=st.integers(1, 30),
    seed=st.integers(0, 2**63),
)
def test_blocks_do_not_matter(blocks: list[int], batch_size: int, num_images: int, seed: int) -> None:
    whole = drawn(RunStream(seed, num_images, batch_size), [sum(blocks)])
    assert_same(drawn(RunStream(seed, num_images, batch_size), blocks), whole)
    assert whole[0].shape == whole[1].shape == (sum(blocks), batch_size)
    assert whole[2].shape == (sum(blocks), batch_size, *SHAPE)
    assert whole[1].dtype == whole[2].dtype == np.float32


@given(num_images=st.integers(1, 40), batch_size=st.integers(1, 50), epochs=st.integers(1, 4))
def test_every_image_once_an_epoch(num_images: int, batch_size: int, epochs: int) -> None:
    steps = -(-epochs * num_images // batch_size)
    order = RunStream(5, num_images, batch_size).indices(steps).ravel()
    for epoch in range(epochs):
        part = order[epoch * num_images : (epoch + 1) * num_images]
        assert sorted(part.tolist()) == list(range(num_images))
    if num_images > 20 and epochs > 1:  # each epoch in an order of its own
        assert order[:num_images].tolist() != order[num_images : 2 * num_images].tolist()


@pytest.mark.parametrize("batch_size", [1, 7, 32, 4096])
def test_levels_are_stratified(batch_size: int) -> None:
    levels = RunStream(1, 10, batch_size).levels(50).astype(np.float64)
    assert levels.min() >= 0.0
    assert levels.max() < 1.0
    # float32 may round a number at the edge of its share onto the edge.
    assert np.abs(levels * batch_size - (np.arange(batch_size) + 0.5)).max() <= 0.5 + 1e-3
    jitter = levels * batch_size - np.arange(batch_size)
    assert jitter.mean() == pytest.approx(0.5, abs=5 * 0.29 / np.sqrt(jitter.size))


def test_the_kinds_do_not_disturb_each_other() -> None:
    calm, busy = RunStream(3, 20, 4), RunStream(3, 20, 4)
    busy.noise(9, (3, 5, 5))
    busy.initial_weights(1000)
    np.testing.assert_array_equal(calm.indices(6), busy.indices(6))
    np.testing.assert_array_equal(calm.levels(6), busy.levels(6))
    a = RunStream(3, 20, 4).initial_weights(50)
    calm.noise(5, SHAPE)
    np.testing.assert_array_equal(a, calm.initial_weights(50))


def test_seeds_are_independent() -> None:
    size = 20_000
    first, second = (RunStream(seed, 10, 4).initial_weights(size) for seed in (0, 1))
    noise = RunStream(0, 10, 100).noise(50, SHAPE).ravel()
    for other in (second, noise):
        assert abs(np.corrcoef(first, other)[0, 1]) < 5 / np.sqrt(size)
    orders = [RunStream(seed, 50, 50).indices(1).ravel().tolist() for seed in range(5)]
    assert len({tuple(order) for order in orders}) == 5


def test_numbers_have_the_right_law() -> None:
    noise = RunStream(8, 10, 64).noise(100, (1, 4, 4)).astype(np.float64)
    error = 5 / np.sqrt(noise.size)
    assert abs(noise.mean()) < error
    assert abs(noise.var() - 1.0) < error * np.sqrt(2.0)


@given(before=st.integers(0, 9), after=st.integers(1, 9))
def test_state_goes_on_exactly(before: int, after: int) -> None:
    stream = RunStream(11, 13, 5)
    stream.initial_weights(17)
    if before:
        drawn(stream, [before])
    state = json.loads(json.dumps(stream.state()))
    expected = [*drawn(stream, [after]), stream.initial_weights(9)]
    other = RunStream(999, 13, 5)
    other.levels(3)
    other.restore(state)
    assert_same([*drawn(other, [after]), other.initial_weights(9)], expected)
