"""Sentences of the papers that a comparison in a training environment can speak to, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.training_summary import TrainingSummary, named_groups, paired_by_seed
from schedrl.environments.training.variant import TrainingVariant
from schedrl.report.claims import Claim, by_interval

__all__ = ["NOT_MEASURED", "READING", "paper_claims"]

NOT_MEASURED = "not measured here"

READING = (
    "What is measured is the test bound at equal optimizer steps, of small networks, each pair of rows on the same "
    "seeds; lower is better, and each verdict is that of its own 95 % interval. The papers report FID on CIFAR-10."
)
"""How to read the table."""

_AVA_TIME = (
    "AVA-DSC: “AVA-DSC significantly reduces training iterations (1.8x faster than linear and 1.18x faster than "
    "cosine)”"
)
_AKOD_SCORE = (
    "AKOD: “AKOD reduces the FID score (representing improved sample quality) by 9.4% while reducing training time by "
    "22.8%”"
)


@dataclass(frozen=True)
class _Pair:
    """A sentence that says that one agent is better than another.

    Attributes:
        text: It, with the paper.
        better: Names of agents, any of which can stand for the one; the first that is there does.
        worse: The other's.
    """

    text: str
    better: tuple[str, ...]
    worse: tuple[str, ...]


_PAIRS = (
    _Pair(
        "AVA-DSC's table: the cosine schedule (FID 28.5) is better than the linear one, β = t/T (35.2)",
        ("cosine",),
        ("printed-linear",),
    ),
    _Pair(
        "AVA-DSC: K moves “When the gradient magnitude falls below τ, K increases”, and that is better than cosine",
        ("ava-prose",),
        ("cosine",),
    ),
    _Pair(
        "AVA-DSC: K moves by “K + η (‖∇L(θ)‖ − τ)”, which is the opposite, and that is better than cosine",
        ("ava-equation",),
        ("cosine",),
    ),
    _Pair(
        "AVA-DSC: moving K beats leaving it alone (“dynamically adjusting the noise schedule”)",
        ("ava-prose", "ava-equation"),
        ("ava-fixed",),
    ),
    _Pair(
        "AVA-DSC's table: AVA with DSC (FID 22.3) is better than cosine (28.5)",
        ("ava-dsc-tuned", "ava-dsc-prose", "ava-dsc-equation"),
        ("cosine",),
    ),
)


def paper_claims(
    variant: TrainingVariant, results: Sequence[TrainingResult], summary: TrainingSummary
) -> list[Claim]:
    """The claims, those that nothing was measured about included.

    Args:
        variant: The environment.
        results: Runs.
        summary: Their table.
    """
    groups = named_groups(results)
    made = [_pair(pair, groups) for pair in _PAIRS]
    learned = next((row.name for row in summary.rows if row.learned), None)
    tuned = "AVA-DSC: “integrating reinforcement learning for automated hyperparameter tuning of AVA and DSC” pays"
    rivals = ("ava-dsc-tuned", "ava-dsc-prose", "ava-dsc-equation")
    kernel = "AKOD: a β learned with PPO as a function of t and local variance beats a fixed linear schedule"
    better = "AKOD: “dynamically adapting the noise schedule” beats the best hand-made schedule there is"
    reward = "AKOD: the negative validation loss under the schedule that is judged tells a better schedule from a worse"
    made += [
        _learned(tuned, variant.action.kind == "dsc", learned, rivals, groups),
        _learned(kernel, variant.action.kind == "kernel", learned, ("linear", "printed-linear"), groups),
        _best(better, summary),
        _reward(reward, summary),
        Claim(
            _AVA_TIME, NOT_MEASURED, "`schedrl experiment ava-dsc` measures iterations to a target quality"
        ),
        Claim(_AKOD_SCORE, NOT_MEASURED, "`schedrl experiment akod` measures the parts of AKOD, and time"),
    ]
    return made


def _row(names: Sequence[str], groups: Mapping[str, list[TrainingResult]]) -> str | None:
    """The row of the first of these agents that there is, as written rather than as the actions express it."""
    for name in names:
        for row in (name, f"{name} (exact)", f"{name} (action)"):
            if row in groups:
                return row
    return None


def _pair(pair: _Pair, groups: Mapping[str, list[TrainingResult]]) -> Claim:
    one, other = _row(pair.better, groups), _row(pair.worse, groups)
    if one is None or other is None:
        lacking = pair.better if one is None else pair.worse
        return Claim(pair.text, NOT_MEASURED, f"no row of {' or '.join(f'`{name}`' for name in lacking)}")
    return _difference(pair.text, one, other, groups)


def _difference(text: str, one: str, other: str, groups: Mapping[str, list[TrainingResult]]) -> Claim:
    difference = paired_by_seed(groups[one], groups[other])
    if difference is None:
        return Claim(text, NOT_MEASURED, f"`{one}` and `{other}` share no seed")
    lost = "".join(
        f"; {count} of {len(groups[name])} runs of `{name}` diverged"
        for name in (one, other)
        if (count := sum(result.diverged for result in groups[name]))
    )
    if len(groups[one]) < 2:
        return Claim(
            text, "not decided", f"`{one}` minus `{other}`: {difference.value:+.4f} bits/dim, one seed"
        )
    measured = f"`{one}` minus `{other}`: {difference:+.4f} bits/dim{lost}"
    return Claim(text, by_interval(difference), measured)


def _learned(
    text: str,
    fits: bool,
    learned: str | None,
    rivals: Sequence[str],
    groups: Mapping[str, list[TrainingResult]],
) -> Claim:
    if not fits:
        return Claim(text, NOT_MEASURED, "an agent decides something else in this environment")
    other = _row(rivals, groups)
    if learned is None or other is None:
        lacking = (
            "learned agent" if learned is None else f"row of {' or '.join(f'`{name}`' for name in rivals)}"
        )
        return Claim(text, NOT_MEASURED, f"no {lacking}")
    return _difference(text, learned, other, groups)


def _best(text: str, summary: TrainingSummary) -> Claim:
    answer = next((a for a in summary.answers if a.against == "hand-made" and a.difference is not None), None)
    if answer is None or answer.difference is None:
        return Claim(text, NOT_MEASURED, "no learned agent, or no hand-made one")
    shown = f"{answer.difference:+.4f}" if answer.num_pairs > 1 else f"{answer.difference.value:+.4f}"
    measured = f"`{answer.learned}` minus `{answer.rival}`: {shown} bits/dim"
    return Claim(text, by_interval(answer.difference), measured)


def _reward(text: str, summary: TrainingSummary) -> Claim:
    if summary.reward != "own_loss":
        return Claim(
            text, NOT_MEASURED, f"the reward here is `{summary.reward}`; docs/gaming.md has the measurement"
        )
    most = summary.row(summary.ranking_by_reward[0][0])
    best = summary.rows[0]
    measured = f"the most rewarded row is `{most.name}`, the one with the best test bound `{best.name}`"
    if most.name == best.name:
        return Claim(text, "holds", measured)
    return Claim(
        text, "does not hold", f"{measured}: {best.test_bound.value:.4f} against {most.test_bound.value:.4f}"
    )
