"""The BESO family: sampling with exact networks, goals and guidance, memory, chunks, prefixes and streams."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.policies.beso.config import BesoConfig, DdpmConfig, DiffusionConfig, FlowConfig, GoalConfig
from fermo.policies.beso.diffusion import Diffusion
from fermo.policies.beso.flow import INTEGRATORS
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.beso.preconditioning import coefficients
from fermo.policies.beso.samplers import SAMPLERS
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.policies.windowed.config import TransformerConfig
from fermo.policies.windowed.world_noise import world_noise
from fermo.signal import PlantSpec, Signal

SPEC = PlantSpec(
    observations=(
        Signal.uniform(name="position", shape=(2,), unit="m"),
        Signal.uniform(name="velocity", shape=(1,), unit="m/s"),
    ),
    commands=(Signal.uniform(name="force", shape=(2,), unit="N", low=-50.0, high=50.0),),
    rate_hz=10.0,
)
SMALL = TransformerConfig(layers=1, heads=2, width=16, attention_dropout=0.0, residual_dropout=0.0)
STD = 0.8  # of the scaled actions given an observation, in the exact networks
# So wide that where the actions lie on average makes no difference to the start.
WIDE = DiffusionConfig(steps=100, sigma_min=0.02, sigma_max=30.0, sigma_data=1.0, schedule="karras")


def data(samples: int = 400) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    observations = torch.randn(samples, 3, generator=generator)
    return observations, 3.0 + 2.0 * torch.randn(samples, 2, generator=generator)


def policy(**settings: Any) -> BesoPolicy:
    made = BesoPolicy(SPEC, BesoConfig(**({"network": SMALL, "context": 3} | settings)))
    made.fit_normalization(*data())
    with torch.no_grad():
        made.network.head.weight.mul_(20)  # or all an untrained network says drowns in rounding
    return made.eval().requires_grad_(False)


def observations(worlds: int = 5, seed: int = 3) -> Tensor:
    return torch.randn(worlds, 3, generator=torch.Generator().manual_seed(seed))


def edm(made: BesoPolicy) -> Diffusion:
    assert isinstance(made.objective, Diffusion)
    return made.objective


class Counted(nn.Module):
    """A network that notes the batch of each call."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.batches = network, []

    def forward(self, *given: Any) -> Tensor:
        self.batches.append(len(given[0]))
        return self.network(*given)


def counted(made: BesoPolicy) -> list[int]:
    counter = Counted(made.network)
    made.network = counter  # type: ignore[assignment]
    return counter.batches


# Exact networks: the scaled action is normal around the scaled position, whatever came before


class ExactDenoiser(nn.Module):
    """F for which D is the expectation of such an action."""

    def __init__(self, sigma_data: Tensor) -> None:
        super().__init__()
        self.sigma_data = sigma_data

    def forward(self, actions: Tensor, levels: Tensor, states: Tensor, observed: Tensor, goal: Tensor | None) -> Tensor:
        sigma, mean = torch.exp(4 * levels), states[:, -1:, :2]
        c = coefficients(sigma, self.sigma_data)
        x = actions / c.scale[..., None]
        denoised = mean + (STD**2 / (STD**2 + sigma**2))[..., None] * (x - mean)
        return (denoised - c.skip[..., None] * x) / c.out[..., None]


class ExactVelocity(nn.Module):
    """The expectation of ``clean - noise`` given ``t clean + (1 - t) noise``."""

    def forward(self, x: Tensor, levels: Tensor, states: Tensor, observed: Tensor, goal: Tensor | None) -> Tensor:
        mean, t = states[:, -1:, :2], (1 - levels)[..., None]
        slope = (t * STD**2 - (1 - t)) / (t**2 * STD**2 + (1 - t) ** 2)
        return mean + slope * (x - t * mean)


def moments(made: BesoPolicy, obs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the scaled first action, over many worlds that see the same."""
    actions = made.action_normalizer(made.select_action(obs.expand(4_000, -1)))
    return actions.mean(0), actions.std(0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_whole_chain_samples_the_exact_distribution_in_si_units(name: Any):
    made = policy(context=1, diffusion=replace(WIDE, sampler=name))
    made.network = ExactDenoiser(edm(made).sigma_data)  # type: ignore[assignment]
    obs = observations(1)
    mean, std = moments(made, obs)
    torch.testing.assert_close(mean, made.observation_normalizer(obs)[0, :2], atol=0.06, rtol=0)
    assert std.tolist() == pytest.approx([STD, STD], rel=0.08)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_flow_matching_samples_the_exact_distribution_too(name: Any):
    made = policy(context=1, objective="flow", flow=FlowConfig(integrator=name, steps=40))
    made.network = ExactVelocity()  # type: ignore[assignment]
    obs = observations(1)
    mean, std = moments(made, obs)
    torch.testing.assert_close(mean, made.observation_normalizer(obs)[0, :2], atol=0.06, rtol=0)
    assert std.tolist() == pytest.approx([STD, STD], rel=0.08)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2)])
def test_a_flow_integrator_converges_to_the_closed_form_at_its_order(name: str, order: int):
    """The solution keeps the standardised value: ``x(1) = mean + STD x(0)``."""
    mean, start = 0.7, torch.linspace(-2, 2, 5, dtype=torch.float64)

    def velocity(x: Tensor, t: float) -> Tensor:
        return mean + (t * STD**2 - (1 - t)) / (t**2 * STD**2 + (1 - t) ** 2) * (x - t * mean)

    ends = [INTEGRATORS[name](velocity, start, steps) for steps in (64, 128)]
    errors = [float((end - mean - STD * start).abs().max()) for end in ends]
    assert math.log2(errors[0] / errors[1]) > order - 0.2, "midpoint's second-order error happens to vanish here"


@pytest.mark.parametrize(("name", "calls"), [("euler", 4), ("heun", 8), ("midpoint", 8)])
def test_a_flow_costs_what_its_integrator_says(name: Any, calls: int):
    made = policy(objective="flow", flow=FlowConfig(integrator=name, steps=4))
    batches = counted(made)
    made.select_action(observations())
    assert batches == [5] * calls


def test_the_loss_is_the_objectives_regression_and_an_exact_network_leaves_only_chance():
    """With the exact F, the error is the variance of the target given what is known: less than the target's, 1."""
    made = policy(diffusion=DiffusionConfig(sigma_data=1.0))
    made.network = ExactDenoiser(edm(made).sigma_data)  # type: ignore[assignment]
    obs = observations(20_000)
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(5))
    action = made.action_normalizer.inverse(made.observation_normalizer(obs)[:, :2] + STD * noise)
    torch.manual_seed(0)
    loss = made({"observation": obs, "action": action})[0]
    sigma = made.objective.draw_levels((200_000,), obs)
    c = coefficients(sigma, torch.tensor(1.0))
    posterior = STD**2 * sigma**2 / (STD**2 + sigma**2)
    assert float(loss) == pytest.approx(float((posterior / c.out**2).mean()), rel=0.03)


def test_weights_and_absent_actions_count_in_the_loss_as_they_should():
    made = policy(chunk=2)
    obs, actions = torch.randn(6, 3, 3), torch.randn(6, 4, 2)
    acted = torch.ones(6, 4, dtype=torch.bool)
    acted[:3] = False

    def loss(**changed: Tensor) -> Tensor:
        torch.manual_seed(1)
        return made({"observation": obs, "action": actions, **changed})[0]

    assert torch.equal(loss(acted=acted), loss(weight=torch.tensor([0.0] * 3 + [1.0] * 3)))
    torch.testing.assert_close(loss(weight=torch.full((6,), 0.3)), loss())
    assert not torch.equal(loss(acted=acted), loss())


# Goals and guidance


def goal_policy(**settings: Any) -> BesoPolicy:
    return policy(goal=GoalConfig(kind="future", **settings))


GOAL = torch.tensor([[1.0, -1.0, 0.5]])


@pytest.mark.parametrize(("guidance", "batches"), [(0.0, [5] * 3), (1.0, [5] * 3), (2.0, [10] * 3)])
def test_guidance_of_zero_and_one_costs_one_pass_and_another_a_doubled_batch(guidance: float, batches: list[int]):
    made = goal_policy(guidance=guidance)
    made.set_goal(GOAL)
    seen = counted(made)
    made.select_action(observations())
    assert seen == batches


def test_guidance_of_zero_is_the_goal_free_policy_and_of_one_the_plain_conditional_one():
    obs = observations()
    free, without = goal_policy(guidance=0.0), goal_policy(guidance=1.0)
    free.set_goal(GOAL)
    assert torch.equal(free.select_action(obs), without.select_action(obs)), "no goal set is no goal"
    plain, nearly = goal_policy(guidance=1.0), goal_policy(guidance=1.0 + 1e-7)
    for made in (plain, nearly):
        made.set_goal(GOAL)
    torch.testing.assert_close(plain.select_action(obs), nearly.select_action(obs), atol=1e-4, rtol=0)
    plain.reset()
    assert not torch.allclose(plain.select_action(obs), free.select_action(obs), atol=1e-3)


def test_guidance_extrapolates_the_denoiser():
    obs, answers = observations(), {}
    one_step = DiffusionConfig(steps=1)  # then the action is affine in D
    for guidance in (0.0, 1.0, 2.5):
        made = policy(goal=GoalConfig(kind="future", guidance=guidance), diffusion=one_step)
        made.set_goal(GOAL)
        answers[guidance] = made.select_action(obs)
    torch.testing.assert_close(answers[2.5], answers[0.0] + 2.5 * (answers[1.0] - answers[0.0]), atol=1e-4, rtol=1e-4)


def test_guidance_acts_only_inside_its_interval():
    made = goal_policy(guidance=3.0, guidance_interval=(0.1, 1.0))
    made.set_goal(GOAL)
    seen = counted(made)
    made.select_action(observations())
    assert [sigma for sigma in made.objective.levels() if sigma] == pytest.approx([5.0, 0.5, 0.05])
    assert seen == [5, 10, 5]


def test_each_world_may_have_its_own_goal():
    made, obs = goal_policy(), observations()
    goals = torch.randn(5, 1, 3, generator=torch.Generator().manual_seed(2))
    made.set_goal(goals)
    together = made.select_action(obs)
    for world in range(5):
        made.reset()
        made.set_goal(goals[world])
        torch.testing.assert_close(made.select_action(obs)[world], together[world])


def test_goal_signals_that_do_not_count_change_nothing():
    made, obs = goal_policy(signals=("position",)), observations()
    made.set_goal(GOAL)
    first = made.select_action(obs)
    made.reset()
    made.set_goal(GOAL + torch.tensor([0.0, 0.0, 9.0]))
    assert torch.equal(made.select_action(obs), first)
    made.reset()
    made.set_goal(GOAL + torch.tensor([9.0, 0.0, 0.0]))
    assert not torch.equal(made.select_action(obs), first)


def test_training_hides_whole_goals_at_the_configs_rate():
    made = goal_policy(dropout=0.3)
    hidden = made.goals.hide(torch.ones(20_000, 1, 3))
    per_sample = hidden.sum((1, 2))
    assert set(per_sample.unique().tolist()) == {0.0, 3.0}
    assert float((per_sample == 0).float().mean()) == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize("kind", ["one_hot", "features"])
def test_a_goal_may_be_a_vector_from_outside(kind: Any):
    made = policy(goal=GoalConfig(kind=kind, size=4))
    obs = observations()
    actions = []
    for number in range(4):
        made.reset()
        made.set_goal(torch.eye(4)[number])
        actions.append(made.select_action(obs))
    assert all(not torch.allclose(a, b) for a, b in itertools.combinations(actions, 2))
    goals = torch.eye(4)[[0, 1, 2, 3, 0, 1]][:, None]
    batch = {"observation": torch.randn(6, 3), "action": torch.randn(6, 2), "goal": goals}
    assert made(batch)[0].isfinite()


@pytest.mark.parametrize(
    ("goal", "problem"),
    [
        (torch.zeros(4), r"has shape \(1, 3\).*got \(4,\)"),
        (torch.zeros(2, 2, 3), r"got \(2, 2, 3\)"),
        (torch.tensor([[0.0, torch.nan, 0.0]]), "NaN or infinity"),
    ],
)
def test_a_goal_that_does_not_fit_is_refused(goal: Tensor, problem: str):
    with pytest.raises(FermoError, match=problem):
        goal_policy().set_goal(goal)


def test_a_goal_is_refused_where_none_is_known_missed_where_one_is_needed_and_counted():
    with pytest.raises(FermoError, match="knows no goals"):
        policy().set_goal(GOAL)
    with pytest.raises(FermoError, match="call set_goal first"):
        goal_policy(dropout=0.0).select_action(observations())
    made = goal_policy()
    made.set_goal(torch.zeros(4, 1, 3))
    with pytest.raises(FermoError, match="4 worlds and there are 5"):
        made.select_action(observations())
    with pytest.raises(FermoError, match="the batch has none"):
        made({"observation": torch.zeros(2, 3), "action": torch.zeros(2, 2)})


# Memory


def test_the_context_is_what_was_seen_and_done_and_a_reset_world_has_none():
    made, stream = policy(), [observations(seed=seed) for seed in range(4)]
    taken = [made.select_action(obs) for obs in stream]
    memory = made._memory
    assert memory is not None and memory.present.all()
    torch.testing.assert_close(memory.observations, torch.stack(stream[-2:], 1))
    torch.testing.assert_close(memory.actions, torch.stack(taken[-2:], 1))
    made.reset(torch.arange(5) == 2)
    assert memory.present.sum(1).tolist() == [2, 2, 0, 2, 2]
    assert memory.episode.tolist() == [0, 0, 1, 0, 0] and memory.step.tolist() == [4, 4, 0, 4, 4]


def test_a_batch_of_another_size_begins_anew():
    made, obs = policy(), observations()
    made.select_action(obs)
    made.reset(torch.ones(3, dtype=torch.bool))
    assert torch.equal(made.select_action(obs[:3]), policy().select_action(obs[:3]))


def test_the_past_matters_and_asking_twice_leaves_no_trace():
    made, obs = policy(), observations()
    made.select_action(observations(seed=8))
    first = made.predict_action_chunk(obs)
    assert torch.equal(made.predict_action_chunk(obs), first)
    assert torch.equal(made.select_action(obs), first[:, 0])
    made.reset()
    made.select_action(observations(seed=9))
    assert not torch.equal(made.predict_action_chunk(obs), first)


def test_what_was_really_done_can_be_remembered_instead():
    ours, theirs, obs = policy(), policy(), observations()
    action = ours.select_action(obs)
    theirs.remember(obs, action)
    assert torch.equal(ours.predict_action_chunk(obs), theirs.predict_action_chunk(obs))
    theirs.reset()
    theirs.remember(obs, action + 1.0)
    assert not torch.equal(ours.predict_action_chunk(obs), theirs.predict_action_chunk(obs))


def test_a_worlds_noise_depends_on_seed_world_episode_and_step_alone():
    wide, narrow = policy(), policy()
    obs = observations(7)
    torch.testing.assert_close(wide.select_action(obs)[:3], narrow.select_action(obs[:3]))
    other = BesoPolicy(SPEC, replace(wide.config, seed=1))
    other.load_state_dict(wide.state_dict())
    wide.reset()
    assert not torch.equal(other.eval().select_action(obs), wide.select_action(obs))


def test_an_episode_after_the_first_has_other_noise_and_a_full_reset_the_first_ones():
    made, obs = policy(), observations()
    first = made.select_action(obs)
    made.reset(torch.ones(5, dtype=torch.bool))
    assert not torch.allclose(made.select_action(obs), first)
    made.reset()
    assert torch.equal(made.select_action(obs), first)


def test_world_noise_is_standard_normal_and_independent_between_keys():
    like = torch.empty(500, 40, dtype=torch.float64)
    noise = [world_noise(like, 7, torch.arange(500), step) for step in (0, 1)]
    for drawn in noise:
        assert float(drawn.mean()) == pytest.approx(0, abs=0.03) and float(drawn.std()) == pytest.approx(1, abs=0.02)
        share = (drawn.abs() < 1.0).double().mean()
        assert float(share) == pytest.approx(0.6827, abs=0.01)
    shifted = [noise[0].roll(1, 0), noise[0].roll(1, 1)]
    correlation = torch.corrcoef(torch.stack([each.flatten() for each in noise + shifted])) - torch.eye(4)
    assert float(correlation.abs().max()) < 0.03


# Chunks, prefixes, streams


def test_a_chunk_is_carried_out_before_the_next_one_and_worlds_reset_apart():
    made = policy(chunk=4, execute=3)
    batches = counted(made)
    stream = [observations(seed=seed) for seed in range(4)]
    chunk = made.predict_action_chunk(stream[0])
    assert chunk.shape == (5, 4, 2)
    taken = [made.select_action(stream[0]), made.select_action(stream[1])]
    made.reset(torch.arange(5) == 1)
    taken.append(made.select_action(stream[2]))
    others = torch.arange(5) != 1
    for step in range(3):
        torch.testing.assert_close(taken[step][others], chunk[others, step])
    assert not torch.allclose(taken[2][1], chunk[1, 2])
    assert len(batches) == 3 * 3  # the chunk asked for, the first one taken, and world 1's new one; three steps each
    made.select_action(stream[3])
    assert len(batches) == 4 * 3


@pytest.mark.parametrize("sampler", ["ddim", "heun", "euler_ancestral", "dpmpp_sde", "lms"])
def test_a_prefix_is_kept_and_the_rest_follows_it(sampler: Any):
    diffusion = DiffusionConfig(sampler=sampler)
    made, obs = policy(chunk=4, diffusion=diffusion), observations()
    free = made.predict_action_chunk(obs)
    prefix = free[:, :2] + 1.0
    held = made.predict_action_chunk(obs, prefix)
    assert torch.equal(held[:, :2], prefix)
    assert not torch.allclose(held[:, 2:], free[:, 2:])
    assert torch.equal(made.predict_action_chunk(obs, free[:, :0]), free)
    assert torch.equal(made.predict_action_chunk(obs, free), free), "all decided"


@pytest.mark.parametrize("objective", ["edm", "ddpm", "flow"])
def test_the_network_is_told_that_past_and_prefix_are_clean(objective: Any):
    made, obs = policy(chunk=3, objective=objective), observations()
    for seed in range(3):
        made.select_action(observations(seed=seed))
    told = []

    class Spy(nn.Module):
        def forward(self, actions: Tensor, levels: Tensor, *rest: Any) -> Tensor:
            told.append((actions, levels))
            return torch.zeros_like(actions)

    made.network = Spy()  # type: ignore[assignment]
    prefix = torch.ones(5, 1, 2)
    made.predict_action_chunk(obs, prefix)
    clean = made.objective.network_level(torch.zeros(5, 3))
    known = torch.cat([made._memory.actions, prefix], 1)  # type: ignore[union-attr]
    for actions, levels in told:
        torch.testing.assert_close(levels[:, :3], clean)
        assert (levels[:, 3:] > clean[:, :1]).all()
        expected = made.objective.network_input(made.action_normalizer(known), torch.zeros(5, 3))
        torch.testing.assert_close(actions[:, :3], expected)


def test_a_prefix_that_does_not_fit_is_refused():
    made, obs = policy(chunk=3), observations()
    for shape in [(5, 4, 2), (4, 1, 2), (5, 1, 3), (5, 2)]:
        with pytest.raises(FermoError, match="the prefix has shape"):
            made.predict_action_chunk(obs, torch.zeros(shape))
    with pytest.raises(FermoError, match="trained with noise_levels prefix or streaming"):
        policy(chunk=3, noise_levels="shared").predict_action_chunk(obs, torch.zeros(5, 1, 2))


def stream_policy(objective: Any = "edm") -> BesoPolicy:
    return policy(chunk=4, stream=True, noise_levels="streaming", objective=objective,
                  diffusion=DiffusionConfig(steps=8, sigma_data=1.0), ddpm=DdpmConfig(steps=8),
                  flow=FlowConfig(steps=8))  # fmt: skip


@pytest.mark.parametrize("objective", ["edm", "ddpm", "flow"])
def test_a_stream_costs_a_share_of_the_steps_and_starts_with_a_whole_chunk(objective: Any):
    made = stream_policy(objective)
    batches = counted(made)
    for calls in (8 + 2, 2, 2):  # eight steps and a chunk of four
        before = len(batches)
        assert made.select_action(observations()).isfinite().all()
        assert len(batches) - before == calls


@pytest.mark.parametrize("objective", ["edm", "flow"])
def test_a_stream_samples_the_exact_distribution_in_the_long_run(objective: Any):
    """By Euler's method over as many levels, whose error the one-shot sampler shares."""
    made = policy(context=1, chunk=2, stream=True, noise_levels="streaming", objective=objective, diffusion=WIDE,
                  flow=FlowConfig(steps=40))  # fmt: skip
    made.network = ExactDenoiser(edm(made).sigma_data) if objective == "edm" else ExactVelocity()  # type: ignore
    obs = observations(1)
    for _ in range(4):
        mean, std = moments(made, obs)
        torch.testing.assert_close(mean, made.observation_normalizer(obs)[0, :2], atol=0.06, rtol=0)
        assert std.tolist() == pytest.approx([STD, STD], rel=0.08)


def test_a_stream_of_one_world_restarts_without_the_others():
    made, other = stream_policy(), stream_policy()
    obs = [observations(seed=seed) for seed in range(3)]
    for step in range(2):
        made.select_action(obs[step])
        other.select_action(obs[step])
    made.reset(torch.arange(5) == 4)
    first, second = made.select_action(obs[2]), other.select_action(obs[2])
    torch.testing.assert_close(first[:4], second[:4])
    assert not torch.allclose(first[4], second[4])


# Settings


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"context": 0}, "context must be at least 1"),
        ({"chunk": 2, "execute": 3}, "execute must lie between 1 and the chunk's 2"),
        ({"objective": "dppm"}, "unknown objective 'dppm': did you mean 'ddpm'"),
        ({"noise_levels": "share"}, "did you mean 'shared'"),
        ({"stream": True}, "noise_levels streaming"),
        ({"stream": True, "noise_levels": "streaming", "chunk": 2}, "multiple of chunk steps"),
        ({"diffusion": DiffusionConfig(sampler="dpmpp_2m_sde")}, "unknown sampler 'dpmpp_2m_sde'"),
        ({"diffusion": DiffusionConfig(schedule="cosine_beta")}, "did you mean 'cosine'"),
        ({"action_scaling": "z"}, "unknown scaling"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict, problem: str):
    with pytest.raises(FermoError, match=problem):
        BesoConfig(**settings)


@pytest.mark.parametrize(
    ("kind", "settings", "problem"),
    [
        (DiffusionConfig, {"sigma_min": 2.0, "sigma_max": 1.0}, "must lie below sigma_max"),
        (DiffusionConfig, {"sampler": "lms", "churn": 1.0}, "churn 1.0 does not suit lms"),
        (DiffusionConfig, {"steps": 0}, "steps must be at least 1"),
        (DiffusionConfig, {"scale": -1.0}, "scale must be positive"),
        (FlowConfig, {"integrator": "rk4"}, "unknown flow integrator"),
        (GoalConfig, {"kind": "futur"}, "did you mean 'future'"),
        (GoalConfig, {"kind": "features"}, "needs its size"),
        (GoalConfig, {"kind": "future", "dropout": 0.0, "guidance": 2.0}, "dropout above 0"),
        (GoalConfig, {"signals": ("position",)}, "belong to future goals"),
        (GoalConfig, {"guidance_interval": (2.0, 1.0)}, "two rising noise levels"),
    ],
)
def test_groups_of_settings_check_themselves(kind: Any, settings: dict, problem: str):
    with pytest.raises(FermoError, match=problem):
        kind(**settings)


def test_a_goal_signal_that_the_plant_lacks_is_refused():
    with pytest.raises(FermoError, match="unknown goal signal 'positon': did you mean 'position'"):
        goal_policy(signals=("positon",))


@pytest.mark.parametrize(
    ("diffusion", "problem"),
    [
        (DiffusionConfig(sigma_max=0.9), "sigma_max 0.9 is below the scaled actions' standard deviation 1"),
        (DiffusionConfig(sigma_min=0.6), "sigma_min 0.6 is over half"),
    ],
)
def test_noise_that_cannot_hold_the_data_is_refused(diffusion: DiffusionConfig, problem: str):
    with pytest.raises(FermoError, match=problem):
        policy(diffusion=diffusion)


def test_sigma_data_is_measured_unless_it_is_given():
    assert float(edm(policy()).sigma_data) == pytest.approx(1.0)
    halved = edm(policy(action_scaling="min_max")).sigma_data
    scaled = policy(action_scaling="min_max").action_normalizer(data()[1])
    assert float(halved) == pytest.approx(float(scaled.std(0, correction=0).square().mean().sqrt()), rel=1e-5)
    assert float(edm(policy(diffusion=DiffusionConfig(sigma_data=0.5))).sigma_data) == 0.5


@pytest.mark.parametrize("kind", ["log_logistic", "log_normal", "log_uniform", "uniform", "v_diffusion", "discrete",
                                  "split_log_normal"])  # fmt: skip
def test_every_density_can_be_trained_with(kind: Any):
    made = policy(diffusion=DiffusionConfig(density=kind))
    levels = made.objective.draw_levels((1000,), torch.zeros(1))
    assert (levels > 0).all() and levels.isfinite().all()
    assert made({"observation": torch.zeros(2, 3), "action": torch.zeros(2, 2)})[0].isfinite()


def test_a_checkpoint_keeps_every_group_of_settings(tmp_path):
    goal = GoalConfig(kind="future", signals=("position",), guidance=2.0, guidance_interval=(0.1, 1.0))
    made = policy(chunk=2, goal=goal, diffusion=DiffusionConfig(sampler="heun", location=-0.5))
    made.set_goal(GOAL)
    loaded = load_checkpoint(save_checkpoint(made, tmp_path / "checkpoint"))
    assert isinstance(loaded, BesoPolicy) and loaded.config == made.config
    loaded.set_goal(GOAL)
    obs = observations()
    assert torch.equal(loaded.predict_action_chunk(obs), made.predict_action_chunk(obs))
    card = (tmp_path / "checkpoint/README.md").read_text()
    assert "| `diffusion.sampler` | heun |" in card and "it draws its actions from a distribution" in card
