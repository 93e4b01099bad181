"""Agents compared on held-out seeds at equal optimizer steps: protocol, result store, table, report.

The protocol, in short. Every agent trains networks on the same data with the same number of optimizer steps, from the
same seeds, none of which was used to train an agent. What counts is the variational bound on *test* images, which no
agent is rewarded for. The interval that decides is that of the difference paired by seed.
"""

from schedrl.benchmark.evaluation import RunResult, evaluate
from schedrl.benchmark.forms import Form, measured_variant
from schedrl.benchmark.protocol import FIRST_SEED, Entry, Plan, held_out_seeds, run_plan
from schedrl.benchmark.store import Result, ResultStore, read_results
from schedrl.benchmark.table import Summary, summarise

__all__ = [
    "FIRST_SEED",
    "Entry",
    "Form",
    "Plan",
    "Result",
    "ResultStore",
    "RunResult",
    "Summary",
    "evaluate",
    "held_out_seeds",
    "measured_variant",
    "read_results",
    "run_plan",
    "summarise",
]
