"""How often the package's 95 % intervals hold the truth, with 10 and 20 seeds, in simulation.

For seeds' noise that is normal, skewed (exponential) or heavy-tailed (t with 3 degrees of freedom), each interval is
made many times from fresh seeds, and the share that hold the true value is counted. An interval passes where the share
is between 93 and 97 %. One environment, four alike, and four that lie apart; one agent, and two paired by seed. Writes
a JSON file; exits with 1 if the package's default interval of an interquartile mean fails.

    .venv/bin/python scripts/check_intervals.py [samples] [file]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, stats

from schedrl.files import dump_json, write_text
from schedrl.stats import intervals, profiles
from schedrl.stats.intervals import Interval

Array = NDArray[np.float64]
Maker = Callable[[Array, np.random.Generator], Interval]

TARGET = Path("benchmarks/results/interval-coverage.json")
LEVEL = 0.95
PASSES = (0.93, 0.97)
SEEDS = (10, 20)
RESAMPLES = 1000
LAWS: dict[str, Any] = {"normal": stats.norm(), "exponential": stats.expon(), "t3": stats.t(3)}
PLACES = {"one": (0.0,), "four alike": (0.0,) * 4, "four apart": (0.0, 1.0, 2.0, 3.0)}
GOAL = 1.5
"""Target of the optimality gap."""

LUCK = 2.0
"""Standard deviation of what two agents have in common by sharing a seed, in that of what they have not."""


def middle_mean(law: Any, places: tuple[float, ...]) -> float:
    """Interquartile mean of an even mixture of the law moved to each place, by quadrature."""
    if len(set(places)) == 1:
        return float(2.0 * integrate.quad(law.ppf, 0.25, 0.75)[0]) + places[0]
    # E[x; low < x < high] of each component, between the mixture's quartiles.
    low, high = (mixture_quantile(law, places, share) for share in (0.25, 0.75))
    parts = [
        integrate.quad(lambda x, at=at: x * law.pdf(x - at), low, high, points=[at], limit=200)[0]
        for at in places
    ]
    return float(2.0 * np.mean(parts))


def mixture_quantile(law: Any, places: tuple[float, ...], share: float) -> float:
    """Where the mixture's distribution function is ``share``."""
    low, high = -50.0, 50.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        below = np.mean([law.cdf(middle - at) for at in places]) < share
        low, high = (middle, high) if below else (low, middle)
    return 0.5 * (low + high)


def gap(law: Any, places: tuple[float, ...]) -> float:
    """Optimality gap of the mixture."""
    parts = [integrate.quad(lambda x, at=at: law.cdf(x - at), -np.inf, GOAL)[0] for at in places]
    return float(np.mean(parts))


def cases(law: Any, places: tuple[float, ...]) -> dict[tuple[str, str], tuple[float, Maker]]:
    """Truth and interval by statistic and method, for one environment or several."""
    middle, missed, mean = (
        middle_mean(law, places),
        gap(law, places),
        float(law.mean()) + float(np.mean(places)),
    )
    found: dict[tuple[str, str], tuple[float, Maker]] = {}
    for method in ("studentised", "percentile"):
        for name, statistic, truth in (
            ("iqm", profiles.interquartile, middle),
            ("optimality gap", profiles.optimality_gap(GOAL), missed),
        ):
            found[name, method] = (truth, _bootstrap(statistic, method))
    if len(places) == 1:
        found["iqm", "trimmed t"] = (middle, lambda x, _: intervals.interquartile_mean(x[0]))
    found["mean", "t"] = (mean, _bootstrap(profiles.average, None))
    return found


def _bootstrap(statistic: profiles.Statistic, method: Any) -> Maker:
    return lambda x, rng: profiles.aggregate(x, rng, statistic, method=method, resamples=RESAMPLES)


def count(
    draw: Callable[[], Array], truth: float, make: Maker, rng: np.random.Generator, samples: int
) -> dict[str, Any]:
    """Share of intervals that hold the truth, which side the others miss on, and their mean width."""
    missed_below = missed_above = 0
    width = 0.0
    for _ in range(samples):
        interval = make(draw(), rng)
        missed_below += interval.high < truth
        missed_above += interval.low > truth
        width += interval.high - interval.low
    coverage = 1.0 - (missed_below + missed_above) / samples
    error = float(np.sqrt(coverage * (1.0 - coverage) / samples))
    return {
        "coverage": round(coverage, 4),
        "standard_error": round(error, 4),
        "ends_below_truth": round(missed_below / samples, 4),
        "begins_above_truth": round(missed_above / samples, 4),
        "mean_width": round(width / samples, 4),
        "passes": bool(PASSES[0] <= coverage <= PASSES[1]),
        "samples": samples,
    }


def paired(
    law: Any, places: tuple[float, ...], rng: np.random.Generator, samples: int, seeds: int
) -> list[Any]:
    """Two agents on the same seeds, one better by a half: their luck, and each its own noise of the law."""
    at = np.array(places)[:, None]

    def draw() -> Array:
        luck = rng.normal(at, LUCK, (len(places), seeds))
        own = law.rvs((2, len(places), seeds), random_state=rng)
        return np.stack([luck + own[0] + 0.5, luck + own[1]])

    rows = []
    for name, statistic in (("paired mean", profiles.average), ("paired iqm", profiles.interquartile)):

        def make(x: Array, g: np.random.Generator, chosen: profiles.Statistic = statistic) -> Interval:
            return profiles.paired_aggregate(x[0], x[1], g, chosen, resamples=RESAMPLES)

        method = "studentised" if name == "paired iqm" and len(places) > 1 else "trimmed t"
        entry = {"statistic": name, "method": "t" if name == "paired mean" else method}
        rows.append(entry | count(draw, 0.5, make, rng, samples))
    return rows


def better_half(seeds: int, rng: np.random.Generator, samples: int) -> dict[str, Any]:
    """Probability of improvement between normal laws one standard deviation apart."""
    truth = float(stats.norm.cdf(1.0 / np.sqrt(2.0)))

    def make(x: Array, g: np.random.Generator) -> Interval:
        return profiles.improvement(x[:1], x[1:], g, resamples=RESAMPLES)

    entry = {"statistic": "probability of improvement", "method": "percentile", "environments": "one"}
    return entry | count(lambda: rng.normal([[1.0], [0.0]], 1.0, (2, seeds)), truth, make, rng, samples)


def required(row: dict[str, Any]) -> bool:
    """Whether the package relies on this interval of the interquartile mean."""
    chosen = "trimmed t" if row["environments"] == "one" else "studentised"
    return row["statistic"] in ("iqm", "paired iqm") and row["method"] == chosen


def main(samples: int, target: Path) -> int:
    """Count, print, write."""
    began, rows = time.perf_counter(), []
    for seeds in SEEDS:
        for name, law in LAWS.items():
            entries = []
            for where, places in PLACES.items():
                # Every interval of a case sees the same samples.
                for (statistic, method), (truth, make) in cases(law, places).items():
                    rng = np.random.default_rng([seeds, len(places), 11])
                    at = np.array(places)[:, None]
                    many = samples * (5 if method in ("t", "trimmed t") else 1)

                    def draw(
                        at: Array = at, rng: np.random.Generator = rng, law: Any = law, seeds: int = seeds
                    ) -> Array:
                        noise: Array = law.rvs((len(at), seeds), random_state=rng)
                        return at + noise

                    entry = {"statistic": statistic, "method": method, "environments": where}
                    resampling = np.random.default_rng([seeds, len(places), 12])
                    entries.append(entry | count(draw, truth, make, resampling, many))
                source = np.random.default_rng([seeds, len(places), 13])
                entries += [
                    {"environments": where} | row for row in paired(law, places, source, samples, seeds)
                ]
            if name == "normal":
                entries.append(better_half(seeds, np.random.default_rng([seeds, 14]), samples))
            for entry in entries:
                rows.append({"seeds": seeds, "law": name} | entry)
                print(
                    f"{seeds:3} {name:12} {entry['environments']:11} {entry['statistic']:27} {entry['method']:12} "
                    f"{entry['coverage']:.4f} ± {entry['standard_error']:.4f}  width {entry['mean_width']:.3f}  "
                    f"{'passes' if entry['passes'] else 'FAILS'}",
                    flush=True,
                )
    failed = [row for row in rows if required(row) and not row["passes"]]
    content = {
        "what": "coverage of 95 % intervals in simulation, by scripts/check_intervals.py",
        "passes_between": list(PASSES),
        "resamples": RESAMPLES,
        "rows": rows,
    }
    write_text(target, dump_json(content))
    print(f"{len(rows)} intervals in {time.perf_counter() - began:.0f} s, written to {target}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else 2000,
            Path(sys.argv[2]) if len(sys.argv) > 2 else TARGET,
        )
    )
