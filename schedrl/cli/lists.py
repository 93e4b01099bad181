"""``schedrl envs`` and ``schedrl agents``: the catalogues."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from schedrl.cli.common import console

ENVS_EXAMPLES = (
    "In Python: `gymnasium.make('schedrl/DigitsKnots-v0')` after `import schedrl`. Any field can be changed: "
    "`--set episode.steps_per_phase=50` here, `**{'episode.steps_per_phase': 50}` there."
)

AGENTS_EXAMPLES = (
    "Every option that takes an agent accepts a name of this list, the folder of a trained agent, or a .toml file like "
    "those in `agents/`. **ppo** is the policy that is shipped for the environment."
)


def envs() -> None:
    """List the environments: their actions, the images or source, the steps of an episode, and missing data."""
    from schedrl import data
    from schedrl.environments.registration import definitions, variant_of

    rows: list[Sequence[str]] = []
    absent: dict[str, str] = {}
    for env_id in definitions():
        variant = variant_of(env_id)
        missing: dict[str, str] = {
            images.name: problem for images in variant.image_sets if (problem := data.missing(images))
        }
        absent |= missing
        action, on, steps = variant.overview
        rows.append((env_id, action, on + (" (missing)" if missing else ""), steps, variant.description))
    _print(("environment", "action", "on", "steps", "what it is"), rows, absent.values())


def agents() -> None:
    """List the agents: hand-made schedules and grids, searches, PPO, and the trained policies that are shipped."""
    from schedrl.catalogue import folder
    from schedrl.errors import SchedrlError
    from schedrl.policies.agent_files import read_description
    from schedrl.policies.agents import catalogue

    rows = [(agent.name, agent.kind, agent.description) for agent in catalogue().values()]
    problems = []
    for path in sorted((folder("agents") / "trained").glob("*/agent.json")):
        try:
            description = read_description(path.parent)
        except SchedrlError as error:
            problems.append(str(error))
            continue
        what = f"trained in {description.variant.id} for {description.timesteps} steps: {path.parent}"
        rows.append((path.parent.name, "trained", what))
    _print(("agent", "kind", "what it is"), rows, problems)


def _print(heads: Sequence[str], rows: Iterable[Sequence[str]], problems: Iterable[str]) -> None:
    """A table, whose last column may wrap, and below it what is wrong."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in heads:
        table.add_column(head, no_wrap=head != heads[-1])
    for row in rows:
        table.add_row(*row)
    out = console()
    out.print(table)
    for problem in problems:
        out.print(f"\n{problem}", markup=False, style="yellow")
