"""The catalogue of agents, and looking agents up."""

from __future__ import annotations

from pathlib import Path

import pytest

from schedrl import schedules
from schedrl.catalogue import folder
from schedrl.environments.registration import definitions, variant_of
from schedrl.errors import SchedrlError
from schedrl.policies import catalogue, find
from schedrl.policies.agents import AVAAgent, ScheduleAgent, TrainedAgent
from schedrl.policies.ppo import PPOSpec, ppo_spec

KNOTS = "schedrl/DigitsKnots-v0"


def test_every_file_is_an_agent_of_its_name() -> None:
    files = sorted(path.stem for path in folder("agents").glob("*.toml"))
    assert sorted(catalogue()) == files
    assert all(agent.description for agent in catalogue().values())


def test_every_named_law_is_an_agent() -> None:
    offered = {agent.schedule.name for agent in catalogue().values() if isinstance(agent, ScheduleAgent)}
    # The free forms are what agents emit, not laws that somebody proposed.
    assert offered == set(schedules.names()) - {"piecewise", "betas", "beta-knots"}


def test_both_rules_of_ava_are_there() -> None:
    assert {agent.rule for agent in catalogue().values() if isinstance(agent, AVAAgent)} == {
        "equation",
        "prose",
    }


def test_no_law_is_there_twice() -> None:
    laws = [agent.schedule for agent in catalogue().values() if isinstance(agent, ScheduleAgent)]
    assert len(set(laws)) == len(laws)


@pytest.mark.parametrize("env_id", sorted(definitions()))
def test_ppo_has_valid_hyperparameters_for_every_environment(env_id: str) -> None:
    assert isinstance(ppo_spec(env_id), PPOSpec)


def test_hyperparameters_are_keyed_by_known_environments() -> None:
    import tomllib

    table = tomllib.loads(folder("agents").joinpath("ppo.toml").read_text(encoding="utf-8"))
    assert set(table["environments"]) <= set(definitions())


def test_hyperparameters_are_checked() -> None:
    assert ppo_spec(KNOTS, learning_rate=0.5).learning_rate == 0.5
    with pytest.raises(SchedrlError, match="did you mean 'learning_rate'"):
        ppo_spec(KNOTS, learning_rat=0.5)
    with pytest.raises(SchedrlError, match="num_envs"):
        ppo_spec(KNOTS, num_envs=0)


def test_unknown_agents_are_named_with_their_neighbour() -> None:
    with pytest.raises(SchedrlError, match=r"unknown agent 'cosin'; did you mean 'cosine'"):
        find("cosin", KNOTS)


def test_a_folder_is_a_trained_agent(trained: Path) -> None:
    agent = find(str(trained), KNOTS)
    assert isinstance(agent, TrainedAgent)
    assert (agent.name, Path(agent.path)) == ("mine", trained)


def test_a_folder_with_any_name_has_a_label(trained: Path, tmp_path: Path) -> None:
    odd = tmp_path / "my run (2)"
    odd.symlink_to(trained)
    resolved = tmp_path / "another run"
    resolved.mkdir()
    (resolved / "agent.json").write_bytes((trained / "agent.json").read_bytes())
    assert find(str(resolved), KNOTS).name == "another-run"
    assert find(str(odd), KNOTS).name == "mine"


def test_a_folder_without_an_agent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match=r"has no agent\.json"):
        find(str(tmp_path), KNOTS)


def test_an_agent_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "steep.toml"
    path.write_text('name = "steep"\nkind = "schedule"\nschedule = { name = "tangent", gamma = 0.15 }\n')
    agent = find(str(path), KNOTS)
    assert isinstance(agent, ScheduleAgent)
    assert agent.schedule == schedules.get("tangent", gamma=0.15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is not TOML"),
        ('name = "x"\nkind = "schedul"\n', "unknown agent kind 'schedul'; did you mean 'schedule'"),
        ('name = "x"\nkind = "schedule"\nschedule = "cosin"\n', "did you mean 'cosine'"),
        ('name = "x"\nkind = "ava"\nrule = "equation"\nrat = 1.0\n', "did you mean 'rate'"),
    ],
)
def test_bad_agent_files_say_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(SchedrlError, match=message):
        find(str(path), KNOTS)


def test_ppo_without_a_shipped_policy_says_how_to_get_one() -> None:
    with pytest.raises(SchedrlError, match="no shipped policy for me/Other-v0; train one"):
        find("ppo", "me/Other-v0")


SHIPPED = sorted(path.parent for path in (folder("agents") / "trained").glob("*/agent.json"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_policies_fit_their_environments(path: Path) -> None:
    from schedrl.policies.agent_files import WEIGHTS, load_agent, read_description

    variant = variant_of(read_description(path).variant.id)
    load_agent(path, variant)
    assert find("ppo", variant.id) == TrainedAgent(
        name="ppo", path=str(path), description=catalogue()["ppo"].description
    )
    assert {WEIGHTS, "agent.json", "README.md"} <= {file.name for file in path.iterdir()}
