"""Agents compared on held-out seeds at equal optimizer steps: protocol, result store, table, report.

The protocol, in short. Every agent trains networks on the same data with the same number of optimizer steps, from the
same seeds, none of which was used to train an agent. What counts is the variational bound on *test* images, which no
agent is rewarded for. The interval that decides is that of the difference paired by seed.
"""

from schedrl.benchmark.evaluation import RunResult, evaluate
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import ResultStore, read_results
from schedrl.benchmark.tasks import FIRST_SEED, held_out_seeds
from schedrl.benchmark.training_summary import TrainingSummary, summarise_training
from schedrl.benchmark.training_tasks import Entry, Plan, run_plan
from schedrl.policies.agents import Form

__all__ = [
    "FIRST_SEED",
    "Entry",
    "Form",
    "Plan",
    "ResultStore",
    "RunResult",
    "TrainingResult",
    "TrainingSummary",
    "evaluate",
    "held_out_seeds",
    "read_results",
    "run_plan",
    "summarise_training",
]
