"""The command line. Only light modules are imported here: torch is loaded by the commands that need it."""

from __future__ import annotations

from typing import Annotated

import typer

import schedrl
from schedrl.cli import (
    benchmark,
    demo,
    evaluate,
    experiment,
    fit,
    learn,
    lists,
    plan,
    schedule,
    search,
    train,
)
from schedrl.cli.common import Group, say

__all__ = ["app", "main"]

app = typer.Typer(
    name="schedrl",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Begin with **schedrl demo**, or step by step: **schedrl envs**, then "
        "**schedrl train --env schedrl/DigitsKnots-v0**, then **schedrl benchmark --env schedrl/DigitsKnots-v0 "
        "--agents runs/ppo/DigitsKnots-v0_1,cosine,linear**."
    ),
)

app.command(epilog=lists.ENVS_EXAMPLES)(lists.envs)
app.command(epilog=lists.AGENTS_EXAMPLES)(lists.agents)
app.command(epilog=plan.PLAN_EXAMPLES)(plan.plan)
app.command(epilog=train.TRAIN_EXAMPLES)(train.train)
app.command(epilog=search.SEARCH_EXAMPLES)(search.search)
app.command(epilog=fit.FIT_EXAMPLES)(fit.fit)
schedule.app.command(epilog=learn.LEARN_EXAMPLES)(learn.learn)
app.add_typer(schedule.app)
app.command(epilog=evaluate.EVALUATE_EXAMPLES)(evaluate.evaluate)
app.command(epilog=benchmark.BENCHMARK_EXAMPLES)(benchmark.benchmark)
app.command(epilog=benchmark.REPORT_EXAMPLES)(benchmark.report)
app.command(epilog=experiment.EXPERIMENT_EXAMPLES)(experiment.experiment)
app.command(epilog=demo.DEMO_EXAMPLES)(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"schedrl {schedrl.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Learn noise schedules for diffusion models with reinforcement learning, and tell whether it was worth it."""


def main() -> None:
    """Entry point of the ``schedrl`` script."""
    app(prog_name="schedrl")
