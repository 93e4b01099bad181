"""``schedrl envs`` and ``schedrl agents``: the catalogues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedrl.cli.common import console

if TYPE_CHECKING:
    pass

__all__ = ["AGENTS_EXAMPLES", "ENVS_EXAMPLES", "agents", "envs"]

ENVS_EXAMPLES = (
    "In Python: `gymnasium.make('schedrl/DigitsKnots-v0')` after `import schedrl`. Any field can be changed: "
    "`--set episode.steps_per_phase=50` here, `**{'episode.steps_per_phase': 50}` there."
)

AGENTS_EXAMPLES = (
    "A name works wherever an agent is asked for; so does the folder of a trained agent, and a .toml file like those "
    "in `agents/`. **ppo** is the policy shipped for the environment at hand."
)


def envs() -> None:
    """List the environments: what an agent decides in each, on which images, and whether those are at hand."""
    from rich import box
    from rich.table import Table

    from schedrl import data
    from schedrl.environments.registration import definitions, variant_of

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("environment", "action", "on", "steps", "what it is"):
        table.add_column(name, no_wrap=name != "what it is")
    absent: dict[str, str] = {}
    for env_id in definitions():
        variant = variant_of(env_id)
        problems: dict[str, str] = {
            images.name: problem for images in variant.image_sets if (problem := data.missing(images))
        }
        absent |= problems
        action, on, steps = variant.overview
        table.add_row(env_id, action, on + (" (missing)" if problems else ""), steps, variant.description)
    out = console()
    out.print(table)
    for problem in absent.values():
        out.print(f"\n{problem}", markup=False, style="yellow")


def agents() -> None:
    """List the agents: hand-made schedules and grids, searches, PPO, and the trained policies that are shipped."""
    from rich import box
    from rich.table import Table

    from schedrl.catalogue import folder
    from schedrl.errors import SchedrlError
    from schedrl.policies.agents import catalogue

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("agent", "kind", "what it is"):
        table.add_column(name, no_wrap=name != "what it is")
    for agent in catalogue().values():
        table.add_row(agent.name, agent.kind, agent.description)
    problems = []
    for path in sorted((folder("agents") / "trained").glob("*/agent.json")):
        from schedrl.policies.agent_files import read_description  # loads torch

        try:
            description = read_description(path.parent)
        except SchedrlError as error:
            problems.append(str(error))
            continue
        what = f"trained in {description.variant.id} for {description.timesteps} steps: {path.parent}"
        table.add_row(path.parent.name, "trained", what)
    out = console()
    out.print(table)
    for problem in problems:
        out.print(f"\n{problem}", markup=False, style="yellow")
