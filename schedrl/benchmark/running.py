"""Comparisons at work: whatever is missing in a result file is measured, by whichever engine."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from schedrl.benchmark.engines import Engine, InProcess, Task
from schedrl.benchmark.store import Line, ResultStore

__all__ = ["Step", "Work", "run_work"]

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
    task: Callable[[Sequence[int]], Task]
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
    engine: Engine | None = None,
    listen: Callable[[Step], None] | None = None,
) -> list[LineT]:
    """Measure what the store does not hold yet, and what no other process has measured meanwhile.

    Args:
        rows: The work.
        store: Where results go, as they come.
        engine: Who measures; this process when absent.
        listen: Told of every task that is begun, and of the end.

    Returns:
        The rows' results, measured now or earlier.

    Raises:
        SchedrlError: The store cannot be written, or something cannot be measured.
    """
    chosen: Engine = engine or InProcess()
    tell = listen or (lambda _: None)
    total, done = sum(len(row.keys) for row in rows), 0

    def tasks() -> Iterator[Task]:
        nonlocal done
        for row in rows:
            store.refresh()
            missing = [seed for seed, key in row.keys.items() if key not in store]
            done += len(row.keys) - len(missing)
            pieces = row.pieces(missing)
            size = chosen.size(len(pieces), row.together)
            for begin in range(0, len(pieces), size):
                yield row.task([seed for piece in pieces[begin : begin + size] for seed in piece])

    def begun(task: Task) -> None:
        tell(Step(done, total, task.doing))

    for lines in chosen.run(tasks(), begun):
        store.append(cast("Sequence[LineT]", lines))  # a plan's tasks make the lines of its family
        done += len(lines)
    tell(Step(done, total, "done"))
    wanted = {key for row in rows for key in row.keys.values()}
    return [result for result in store.results if result.key in wanted]
