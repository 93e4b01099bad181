"""Benchmarks: agents × environments × held-out seeds, from a file to a table.

A :class:`Benchmark` is laid out as parts, one per environment, whose :class:`Task` objects any process can run. Each
gives :class:`Result` lines, and a :class:`Summary` is the table of them. What differs between training and sampling
environments is in one adapter each, :mod:`.training_family` and :mod:`.sampling_family`.
"""

from schedrl.benchmark.benchmark_file import Benchmark, lay_out, read_benchmark
from schedrl.benchmark.evaluation import evaluate
from schedrl.benchmark.results import Episode, Result, SamplingResult, TrainingResult
from schedrl.benchmark.store import ResultStore, read_results
from schedrl.benchmark.summary import Summary, SummaryRow
from schedrl.benchmark.tasks import FIRST_SEED, Part, Task, held_out_seeds, run_tasks

__all__ = [
    "FIRST_SEED",
    "Benchmark",
    "Episode",
    "Part",
    "Result",
    "ResultStore",
    "SamplingResult",
    "Summary",
    "SummaryRow",
    "Task",
    "TrainingResult",
    "evaluate",
    "held_out_seeds",
    "lay_out",
    "read_benchmark",
    "read_results",
    "run_tasks",
]
