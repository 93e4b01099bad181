"""Any agent on sampling problems: grids, plans as policies, and policies that are trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

from schedrl.environments.sampling.env import SamplingEnv, SamplingVectorEnv
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.sb3 import Sb3VectorEnv
from schedrl.errors import AgentFileError, SchedrlError
from schedrl.policies.agent_files import load_agent, read_description
from schedrl.policies.agents import GridAgent, GridSearchAgent, RandomAgent, TrainedAgent, catalogue, find
from schedrl.policies.grid_rules import DilationRule, GridPolicy, GridRule, LawRule, OptimumRule, TangentRule
from schedrl.policies.policy import BatchPolicy, Rows, State, walk
from schedrl.policies.ppo_training import request_for, resume, train
from schedrl.policies.preview import draw_choice
from schedrl.policies.progress import TrainingProgress, read_progress
from schedrl.schedules import KarrasGrid

MakeSampling = Callable[..., SamplingVariant]
TrainedSampling = Callable[[str], Path]


def trained_agent(folder: Path) -> TrainedAgent:
    return TrainedAgent(name="mine", path=str(folder))


def assert_grids(sigmas: NDArray[np.float64], problems: SamplingProblems) -> None:
    assert sigmas.shape == (len(problems), problems.width)
    for levels, n in zip(sigmas, problems.total.tolist(), strict=True):
        assert (np.diff(levels[: n + 1]) < 0.0).all()
        assert not levels[n:].any()


@pytest.mark.parametrize(
    "name",
    [
        "grid-reference",
        "grid-karras",
        "search-random",
        "search-cma-es",
        "search-coordinate",
        "search-dynamic",
        "random",
    ],
)
def test_every_kind_of_agent_on_every_source(name: str, source: str, make_sampling: MakeSampling) -> None:
    agent = catalogue()[name]
    if isinstance(agent, GridSearchAgent):
        less = {"levels": 17} if name == "search-dynamic" else {"evaluations": 12}
        agent = agent.model_copy(update={"search": agent.search.model_copy(update=less)})
    problems = SamplingProblems.drawn(make_sampling(source), range(4))
    solution = agent.solve(problems, range(4))
    assert_grids(solution.sigmas, problems)
    assert np.isfinite(problems.error(solution.sigmas)).all()
    assert (solution.evaluations > 0).all() == (agent.kind == "search")
    assert solution.seconds >= 0.0
    again = agent.solve(problems, range(4))
    np.testing.assert_array_equal(again.sigmas, solution.sigmas)


def test_a_trained_agent_on_every_source(
    source: str, make_sampling: MakeSampling, trained_sampling: TrainedSampling
) -> None:
    problems = SamplingProblems.drawn(make_sampling(source), range(4))
    solution = trained_agent(trained_sampling(source)).solve(problems)
    assert_grids(solution.sigmas, problems)
    assert not solution.evaluations.any()
    alone = trained_agent(trained_sampling(source)).solve(problems.take(np.array([2])))
    np.testing.assert_allclose(alone.sigmas[0], solution.sigmas[2, : alone.sigmas.shape[1]], rtol=1e-4)


@pytest.mark.parametrize("name", ["random", "search-random"])
def test_random_numbers_belong_to_the_problem(name: str, make_sampling: MakeSampling) -> None:
    """So a comparison that was cut short goes on to the same numbers."""
    agent = catalogue()[name]
    problems = SamplingProblems.drawn(make_sampling("gaussian"), range(6))
    whole = agent.solve(problems, range(6)).sigmas
    part = agent.solve(problems.take(np.array([4, 5])), [4, 5]).sigmas
    np.testing.assert_allclose(part, whole[4:, : part.shape[1]], rtol=1e-12)
    other = agent.solve(problems, range(10, 16)).sigmas
    assert (other != whole).any()


def test_random_actions_cover_their_box(make_sampling: MakeSampling) -> None:
    variant = make_sampling("mixture", steps={"minimum": 2, "maximum": 2})
    problems = SamplingProblems.drawn(variant, range(500))
    sigmas = RandomAgent(name="random").solve(problems).sigmas
    start, end = np.full(500, np.inf), sigmas[:, 1]
    n = np.full(500, 2)
    actions = variant.action.encode(start, end, n, n, problems.batch)[:, 0]
    assert np.abs(np.histogram(actions, bins=4, range=(-1.0, 1.0))[0] - 125).max() < 50


@pytest.mark.parametrize("name", ["cosine", "ava-prose"])
def test_agents_of_the_other_family_are_refused(name: str, make_sampling: MakeSampling) -> None:
    problems = SamplingProblems.drawn(make_sampling("gaussian"), [0])
    agent = catalogue()[name]
    assert not agent.acts_in(problems.variant)
    with pytest.raises(
        SchedrlError, match=rf"^agent '{name}': a \w+ is not for environments of the family 'sampling'"
    ):
        agent.solve(problems)


@pytest.mark.parametrize("name", ["grid-tangent", "search-random"])
def test_what_sees_the_source_is_no_policy(name: str, make_sampling: MakeSampling) -> None:
    with pytest.raises(SchedrlError, match=rf"^agent '{name}': sees the source, not observations; use "):
        catalogue()[name].policy(make_sampling("gaussian"))


def test_no_policy_is_shipped_for_ones_own_environment() -> None:
    with pytest.raises(SchedrlError, match=r"has no shipped policy for me/MySampling-v0; train one"):
        find("ppo", "me/MySampling-v0")


PLANS: list[tuple[str, GridRule]] = [
    ("gaussian", TangentRule(gamma=0.7)),
    ("gaussian", OptimumRule()),
    ("images", TangentRule()),
    ("mixture", DilationRule(scaling="vp")),
    ("curie-weiss", TangentRule(gamma=1.5)),
]


def earned(errors: NDArray[np.float64], problems: SamplingProblems) -> NDArray[np.float64]:
    return np.asarray(np.log(problems.error(problems.reference()) / errors))


# Wide enough that no plan here is out of reach.
WIDE = {"action.scale": 20.0}


@pytest.mark.parametrize(("kind", "plan"), PLANS)
def test_a_plan_through_sb3_reaches_its_own_error(
    kind: str, plan: GridRule, make_sampling: MakeSampling
) -> None:
    variant, envs = make_sampling(kind, **WIDE), 5
    vector = SamplingVectorEnv(envs, variant=variant)
    env = VecMonitor(Sb3VectorEnv(vector))
    env.seed(3)
    # One episode of each environment: with more, those of short episodes would come again.
    returns: Any
    returns, _ = evaluate_policy(
        GridPolicy(plan, vector), env, n_eval_episodes=envs, return_episode_rewards=True
    )
    problems = SamplingProblems.drawn(variant, range(3, 3 + envs))
    own = problems.error(plan.grids(problems))
    np.testing.assert_allclose(sorted(returns), sorted(earned(own, problems)), atol=1e-4)


@pytest.mark.parametrize(("kind", "plan"), PLANS)
def test_a_plan_in_a_single_environment(kind: str, plan: GridRule, make_sampling: MakeSampling) -> None:
    variant = make_sampling(kind, **WIDE)
    env = SamplingEnv(variant=variant)
    policy = GridPolicy(plan, env)
    for seed in (5, 6):
        observation, _ = env.reset(seed=seed)
        ended, total = False, 0.0
        info: dict[str, Any] = {}
        while not ended:
            action, state = policy.predict(observation)
            assert action in env.action_space
            assert state is None
            observation, reward, ended, _, info = env.step(action)
            total += reward
        problems = SamplingProblems.drawn(variant, [seed])
        grid = plan.grids(problems)
        np.testing.assert_allclose(info["sigmas"][: problems.width], grid[0], rtol=1e-4)
        assert info["error"] == pytest.approx(problems.error(grid)[0], rel=1e-3)
        assert total == pytest.approx(np.log(info["reference_error"] / info["error"]), abs=1e-9)


def test_a_plan_in_a_wrapped_environment_of_sb3(make_sampling: MakeSampling) -> None:
    """As a user has it: ``evaluate_policy`` on a plain Gymnasium environment."""
    variant = make_sampling("gaussian", **WIDE)
    env = gym.make(variant.id, variant=variant.model_dump(mode="json"))
    inner: Any = env.unwrapped
    env.reset(seed=1)
    mean, _ = evaluate_policy(GridPolicy(OptimumRule(), inner), env, n_eval_episodes=3, warn=False)
    assert float(np.mean(mean)) > 0.0


def test_a_finite_first_level_becomes_the_environments(make_sampling: MakeSampling) -> None:
    variant = make_sampling("gaussian", **WIDE)
    env = SamplingEnv(variant=variant)
    plan = LawRule(grid=KarrasGrid(sigma_max=5.0, sigma_min=0.05))
    observation, _ = env.reset(seed=0)
    action, _ = GridPolicy(plan, env).predict(observation)
    observation, *_ = env.step(action)
    levels = env.vector.runs.levels[0]
    assert levels[0] == np.inf
    assert levels[1] == pytest.approx(plan.grids(SamplingProblems.drawn(variant, [0]))[0, 1], rel=1e-4)


def test_a_plan_needs_a_row_per_run(make_sampling: MakeSampling) -> None:
    vector = SamplingVectorEnv(3, variant=make_sampling("gaussian"))
    observations, _ = vector.reset(seed=0)
    with pytest.raises(SchedrlError, match="observation: one row per run is needed, 3"):
        GridPolicy(TangentRule(), vector).predict(observations[:2])


class Leaning:
    """A policy with memory: every action depends on how many came before."""

    def __init__(self) -> None:
        self.starts: list[NDArray[np.bool_] | None] = []
        self.states: list[Any] = []

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        assert deterministic
        self.starts.append(episode_start)
        self.states.append(state)
        count = np.zeros(len(observation)) if state is None else state[0]
        actions = np.clip(observation[:, :1] * 0.3 - 0.2 * count[:, None], -1.0, 1.0)
        return actions.astype(np.float32), (count + 1.0,)


def test_walking_is_stepping_the_environment(source: str, make_sampling: MakeSampling) -> None:
    variant, envs = make_sampling(source), 4
    problems = SamplingProblems.drawn(variant, range(7, 7 + envs))
    policy = Leaning()
    grids = walk(policy, problems)
    most = problems.width - 1
    assert len(policy.states) == most
    assert policy.states[0] is None
    assert [state[0].tolist() for state in policy.states[1:]] == [[step] * envs for step in range(1, most)]
    assert [start.tolist() for start in policy.starts if start is not None] == [
        [step == 0] * envs for step in range(most)
    ]

    for row in range(envs):
        env = SamplingEnv(variant=variant)
        observation, _ = env.reset(seed=7 + row)
        stepping, state, ended = Leaning(), None, False
        info: dict[str, Any] = {}
        while not ended:
            action, state = stepping.predict(observation[None], state=state, deterministic=True)
            observation, _, ended, _, info = env.step(action[0])
        np.testing.assert_allclose(info["sigmas"][: problems.width], grids[row], rtol=1e-6)
        assert problems.error(grids)[row] == pytest.approx(info["error"], rel=1e-6)


def test_walking_leaves_the_problems_alone(make_sampling: MakeSampling) -> None:
    problems = SamplingProblems.drawn(make_sampling("gaussian"), range(3))
    before = [values.copy() for values in problems.batch.parameters().values()]
    walk(Leaning(), problems)
    for old, new in zip(before, problems.batch.parameters().values(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_trained_agent_comes_back(trained_sampling: TrainedSampling, make_sampling: MakeSampling) -> None:
    folder = trained_sampling("gaussian")
    policy = load_agent(folder, make_sampling("gaussian"))
    description = policy.description
    assert description.variant == make_sampling("gaussian")
    assert (description.timesteps, description.optimizer_steps) == (64, 0)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "no network was trained inside" in card
    assert "how far the next step goes, relative to the reference `" in card
    observation = np.zeros((3, len(description.variant.observation_names)), dtype=np.float32)
    actions, state = policy.predict(observation, deterministic=True)
    assert actions.shape == (3, 1)
    assert state is None


def test_a_trained_agent_needs_its_spaces(
    trained_sampling: TrainedSampling, make_sampling: MakeSampling
) -> None:
    folder = trained_sampling("gaussian")
    load_agent(folder, make_sampling("gaussian", **{"steps.maximum": 9, "source.spectrum.eigenvalues": 6}))
    for other in (make_sampling("gaussian", **{"source.quantiles": 5}), make_sampling("mixture")):
        with pytest.raises(AgentFileError, match=r"was trained in .* whose observations or actions are not"):
            load_agent(folder, other)


def interrupt_after(updates: int) -> Callable[[TrainingProgress], None]:
    seen: list[TrainingProgress] = []

    def listen(progress: TrainingProgress) -> None:
        seen.append(progress)
        if len(seen) == updates:
            raise KeyboardInterrupt

    return listen


@pytest.mark.parametrize(
    ("source", "where"),
    [
        *(("gaussian", where) for where in ("first rollout", "between updates", "in an update")),
        *((kind, "in a rollout") for kind in ("gaussian", "curie-weiss")),
    ],
)
def test_an_interrupted_training_ends_as_if_nothing_had_happened(
    where: str, source: str, make_sampling: MakeSampling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Episodes of several lengths, so that some are under way at an update.
    variant = make_sampling(source, steps={"minimum": 2, "maximum": 4})
    overrides = {"source": variant.source, "steps": {"minimum": 2, "maximum": 4}}
    plain = {
        key: value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        for key, value in overrides.items()
    }
    request = request_for(variant.id, 3, plain, num_envs=8, total_timesteps=128, minibatches=1, n_epochs=2)
    whole = train(request, tmp_path / "whole")
    assert read_description(whole).timesteps == 128
    part, listen, done = tmp_path / "part", None, 64
    if where == "between updates":
        listen = interrupt_after(2)
    elif where == "in an update":
        fail_at(monkeypatch, torch.optim.Adam, "step", 5)
    else:
        done = 0 if where == "first rollout" else 64
        fail_at(monkeypatch, SamplingVectorEnv, "step", 1 if done == 0 else 10)
    with pytest.raises(KeyboardInterrupt):
        train(request, part, listen)
    monkeypatch.undo()
    assert read_description(part).timesteps == done
    resume(part)
    assert (part / "policy.safetensors").read_bytes() == (whole / "policy.safetensors").read_bytes()
    assert [row.return_mean for row in read_progress(part)] == [
        row.return_mean for row in read_progress(whole)
    ]


def fail_at(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, call: int) -> None:
    """Make the given call of a method an interrupt, after its work was done."""
    original, calls = getattr(owner, name), [0]

    def interrupted(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        result = original(*arguments, **keywords)
        if calls[0] == call:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, interrupted)


def test_the_preview_shows_what_a_policy_decides(
    source: str, make_sampling: MakeSampling, trained_sampling: TrainedSampling
) -> None:
    assert list((trained_sampling(source) / "tensorboard").iterdir())
    vector = SamplingVectorEnv(2, variant=make_sampling(source))
    vector.reset(seed=0)
    before, _ = vector.state()
    figure = draw_choice(load_agent(trained_sampling(source)), vector)
    (axes,) = figure.axes
    problems = SamplingProblems.drawn(vector.variant, range(4))
    drawn = axes.get_lines()[:4]
    assert [len(line.get_xdata()) for line in drawn] == (problems.total - 1).tolist()
    assert all(np.isfinite(line.get_ydata()).all() for line in drawn)
    figure.canvas.draw()
    after, _ = vector.state()
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])


def test_the_preview_of_doing_nothing_is_flat(source: str, make_sampling: MakeSampling) -> None:
    class Still(BatchPolicy):
        def act(self, rows: Rows, state: State, deterministic: bool) -> tuple[NDArray[Any], State]:
            return np.zeros((len(rows), 1), dtype=np.float32), ()

    figure = draw_choice(Still(), SamplingVectorEnv(1, variant=make_sampling(source)))
    for line in figure.axes[0].get_lines():
        np.testing.assert_allclose(line.get_ydata(), 0.0, atol=1e-9)


def test_a_grid_agent_is_data() -> None:
    agent = catalogue()["grid-optimum"]
    assert isinstance(agent, GridAgent)
    assert isinstance(agent.plan, OptimumRule)
