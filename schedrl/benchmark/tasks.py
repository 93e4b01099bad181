"""Comparisons at work: whatever is missing in a result file is measured, by whichever executor."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar, cast

from schedrl.benchmark.executors import Executor, InProcess, Runnable
from schedrl.benchmark.store import Line, ResultStore
from schedrl.errors import SchedrlError

__all__ = ["FIRST_SEED", "NUM_SEEDS", "Step", "Work", "held_out_seeds", "run_work"]

FIRST_SEED = 1_000_000
"""First held-out seed. Training seeds are small numbers, and the episodes that follow from one are drawn by its own
generator, so no episode of a training begins like a held-out one. That a trained agent keeps to this is checked."""

NUM_SEEDS = 20
"""Held-out seeds of a comparison."""


def held_out_seeds(count: int = NUM_SEEDS, first: int = FIRST_SEED) -> list[int]:
    """Seeds of a comparison.

    Examples:
        >>> held_out_seeds(3)
        [1000000, 1000001, 1000002]
    """
    if count < 1:
        raise SchedrlError(f"seeds: must be at least 1 (got {count})")
    return list(range(first, first + count))


LineT = TypeVar("LineT", bound=Line)


@dataclass(frozen=True)
class Step:
    """Where a comparison stands.

    Attributes:
        done: Runs measured or found in the store.
        total: Runs in the plan.
        doing: The row at work.
    """

    done: int
    total: int
    doing: str


@dataclass(frozen=True)
class Work:
    """A row of a comparison as something to be done.

    Attributes:
        keys: What tells each seed's line from others.
        task: Makes a task of some seeds.
        together: Pieces that are measured side by side, at most.
        piece: Seeds whose quotient by it agrees are one piece, which no task cuts.
    """

    keys: Mapping[int, Hashable]
    task: Callable[[Sequence[int]], Runnable]
    together: int
    piece: int = 1

    def pieces(self, seeds: Sequence[int]) -> list[list[int]]:
        """Seeds in pieces."""
        cut: dict[int, list[int]] = {}
        for seed in seeds:
            cut.setdefault(seed // self.piece, []).append(seed)
        return list(cut.values())


def run_work(
    rows: Sequence[Work],
    store: ResultStore[LineT],
    *,
    executor: Executor | None = None,
    listen: Callable[[Step], None] | None = None,
) -> list[LineT]:
    """Measure what the store does not hold yet, and what no other process has measured meanwhile.

    Args:
        rows: The work.
        store: Where results go, as they come.
        executor: Who measures; this process when absent.
        listen: Told of every task that is begun, and of the end.

    Returns:
        The rows' results, measured now or earlier.

    Raises:
        SchedrlError: The store cannot be written, or something cannot be measured.
    """
    chosen: Executor = executor or InProcess()
    tell = listen or (lambda _: None)
    total, done = sum(len(row.keys) for row in rows), 0

    def tasks() -> Iterator[Runnable]:
        nonlocal done
        for row in rows:
            store.refresh()
            missing = [seed for seed, key in row.keys.items() if key not in store]
            done += len(row.keys) - len(missing)
            pieces = row.pieces(missing)
            size = chosen.size(len(pieces), row.together)
            for begin in range(0, len(pieces), size):
                yield row.task([seed for piece in pieces[begin : begin + size] for seed in piece])

    def begun(task: Runnable) -> None:
        tell(Step(done, total, task.doing))

    with closing(chosen.run(tasks(), begun)) as ended:  # whatever happens here, workers end now
        for lines in ended:
            store.append(cast("Sequence[LineT]", lines))  # a plan's tasks make the lines of its family
            done += len(lines)
    tell(Step(done, total, "done"))
    wanted = {key for row in rows for key in row.keys.values()}
    return [result for result in store.results if result.key in wanted]
