"""``schedrl search``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

KNOTS = ("--env", "schedrl/DigitsKnots-v0")


def test_search_and_measure(run: Run, tiny_options: list[str]) -> None:
    words = ["search", *KNOTS, *tiny_options, "--algo", "cma-es", "--budget", "24", "--hp", "population=4"]
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    folder = Path("runs/search/cma-es-DigitsKnots-v0-0")
    assert f"the agent is in {folder}" in result.stdout
    assert "search: 8/24, best so far" in result.stderr
    found = json.loads((folder / "sequence.json").read_text())
    assert found["search_steps"] <= 24
    assert f"searched for {found['search_steps']} optimizer steps" in result.stdout
    assert run(*words).stdout == result.stdout

    result = run("benchmark", *KNOTS, *tiny_options, "--agents", f"cma={folder},cosine", "--seeds", "2")
    assert result.exit_code == 0, result.stderr
    assert "cma" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*KNOTS, "--algo", "cma"], "unknown search 'cma'"),
        ([*KNOTS, "--budget", "cosine"], "budget 'cosine': must be a number, ppo, or the folder"),
        ([*KNOTS, "--budget", "200"], "the budget must pay for 2 training runs"),
        ([*KNOTS, "--hp", "spread=0"], "spread"),
        (["--env", "schedrl/GaussianSampling-v0"], "is a sampling environment"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, run: Run) -> None:
    result = run("search", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("error")]) == 1
    assert not list(Path().glob("runs/search/*"))


def test_a_comparison_searches_first(run: Run, tiny_options: list[str]) -> None:
    Path("mine.toml").write_text(
        'name = "mine"\nkind = "schedule-search"\nbudget = 20\nsearch = { name = "halving" }\n'
    )
    words = ["benchmark", *KNOTS, *tiny_options, "--agents", "mine.toml,cosine", "--seeds", "2", "-f", "out"]
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    assert "searching: 20/20, mine in schedrl/DigitsKnots-v0, best so far" in result.stderr
    assert len(list(Path("out/searches").glob("mine-*/sequence.json"))) == 1
    again = run(*words)
    assert again.stdout == result.stdout
    assert "searching:" not in again.stderr
    assert run("report", "out").exit_code == 0
