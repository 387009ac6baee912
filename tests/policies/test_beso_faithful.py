"""Each defect of the released implementation: the preset `faithful` has it, and `default` does not."""

import math
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.policies.beso import presets
from fermo.policies.beso.config import BesoConfig, Defects
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.beso.preconditioning import coefficients
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.policies.window import FutureGoal
from fermo.signal import PlantSpec, Signal
from fermo.training.data.samples import WindowSamples
from fermo.training.loops.bc import BcTrainer
from fermo.training.loops.bc_config import BcConfig
from tests.policies.beso_policies import SMALL, edm

# Block-Push's observation: both blocks' positions and yaws, the effector, and its target.
SPEC = PlantSpec(
    observations=(
        Signal.uniform(name="block_position", shape=(2,), unit="m"),
        Signal.uniform(name="block_yaw", shape=(1,), unit="rad"),
        Signal.uniform(name="other_position", shape=(2,), unit="m"),
        Signal.uniform(name="other_yaw", shape=(1,), unit="rad"),
        Signal.uniform(name="effector", shape=(2,), unit="m"),
        Signal.uniform(name="effector_target", shape=(2,), unit="m"),
    ),
    commands=(Signal.uniform(name="step", shape=(2,), unit="m"),),
    rate_hz=10.0,
)
BLOCKS = ("block_position", "other_position")


def data(samples: int = 300) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(samples, 10, generator=generator), 0.5 + 0.5 * torch.rand(samples, 2, generator=generator)


def config(preset: str, **changed: Any) -> BesoConfig:
    faithful = preset == "faithful"
    made = presets.faithful("block_push") if faithful else presets.default("block_push", goal_signals=BLOCKS)
    return replace(made, network=SMALL, **changed)


def policy(preset: str, **changed: Any) -> BesoPolicy:
    made = BesoPolicy(SPEC, config(preset, **changed))
    made.fit_normalization(*data())
    with torch.no_grad():
        made.network.head.weight.mul_(20)
    return made.eval().requires_grad_(False)


def observations(seed: int = 1) -> Tensor:
    return torch.randn(5, 10, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["faithful", "default"])
def preset(request: pytest.FixtureRequest) -> str:
    return request.param


def test_faithful_has_every_defect_and_default_none():
    assert all(getattr(config("faithful").defects, item.name) for item in fields(Defects))
    assert config("default").defects == Defects()
    assert (config("faithful").noise_levels, config("default").noise_levels) == ("shared", "prefix")


@pytest.mark.parametrize("benchmark", ["kitchen", "block_push"])
def test_presets_have_the_released_sizes(benchmark: str):
    expected = {"kitchen": (4, 2, 6, 6, 360), "block_push": (5, 1, 4, 12, 240)}[benchmark]
    for made in (presets.faithful(benchmark), presets.default(benchmark)):
        network = made.network
        assert (made.context, made.goal.frames, network.layers, network.heads, network.width) == expected
        assert (made.chunk, made.diffusion.steps, made.goal.dropout) == (1, 3, 0.1)


def test_an_unknown_benchmark_is_refused_with_the_nearest():
    with pytest.raises(FermoError, match="did you mean 'kitchen'"):
        presets.default("kitchn")


# 1


def test_goals_are_hidden_by_element_or_by_sample(preset: str):
    goals = policy(preset).goals
    torch.manual_seed(0)
    hidden = goals.hide(torch.ones(20_000, 1, 10)).sum((1, 2))
    whole = float((hidden == 0).float().mean())
    assert whole == pytest.approx(0.1, abs=0.01) if preset == "default" else whole == 0.0
    assert (len(hidden.unique()) == 2) == (preset == "default")


# 2


def test_the_end_of_an_episode_is_a_goal_or_never_is(preset: str):
    made = policy(preset)
    frames = {"observation": torch.arange(1.0, 13.0)[:, None], "action": torch.zeros(12, 1)}
    samples = WindowSamples(frames, torch.tensor([0] * 5 + [1] * 7), made.window)
    generator = torch.Generator().manual_seed(0)
    goals = [samples.batch(torch.arange(12), generator)["goal"][:, 0, 0] for _ in range(200)]
    drawn = torch.stack(goals)
    assert isinstance(made.window.goal, FutureGoal)
    if preset == "default":
        assert set(drawn[:, 0].tolist()) == {2.0, 3.0, 4.0, 5.0}
        assert (drawn[:, 4] == 5.0).all() and (drawn[:, 11] == 12.0).all()
    else:
        assert set(drawn[:, 0].tolist()) == {2.0, 3.0, 4.0}
        assert (drawn[:, [3, 4, 10, 11]] == 0.0).all(), "a raw zero, which scaling makes something else"
        nothing = made.goals.scaled(torch.zeros(1, 1, 10), made.observation_normalizer)
        assert (nothing != 0).any()


# 3


def test_past_actions_drift_or_stay(preset: str):
    one_network = replace(config(preset).defects, swapped_average=False)  # so that it can be replaced below
    made, seen = policy(preset, defects=one_network), []
    for seed in range(5):
        made.select_action(observations(seed))

    class Spy(nn.Module):
        def forward(self, actions: Tensor, levels: Tensor, *rest: Any) -> Tensor:
            sigma = torch.exp(4 * levels)
            past = actions / coefficients(sigma, edm(made).sigma_data).scale[..., None]
            seen.append((past[:, :4], levels[:, :4]))
            return torch.ones_like(actions)

    made.network = Spy()  # type: ignore[assignment]
    made.predict_action_chunk(observations())
    drift = max(float((later[0] - seen[0][0]).abs().max()) for later in seen[1:])
    assert (drift > 0.05) == (preset == "faithful")
    last_sigma = made.objective.levels()[-2]
    told = torch.exp(4 * seen[-1][1])
    assert torch.allclose(told, torch.tensor(last_sigma)) == (preset == "faithful")


# 4


def test_an_episode_is_forgotten_or_leaks_into_the_next(preset: str):
    made = policy(preset)
    made.select_action(observations(7))
    made.reset(torch.ones(5, dtype=torch.bool))
    assert made._memory is not None
    assert bool(made._memory.present.any()) == (preset == "faithful")
    before = made._memory
    made.reset()
    assert (made._memory is before) == (preset == "faithful")


# 5


def test_churn_acts_or_is_ignored(preset: str):
    sampler = replace(config(preset).diffusion, sampler="ddim", churn=2.0)
    still, churned = policy(preset, diffusion=replace(sampler, churn=0.0)), policy(preset, diffusion=sampler)
    obs = observations()
    assert torch.equal(still.select_action(obs), churned.select_action(obs)) == (preset == "faithful")


# 6


def test_released_schedules_leave_their_range_and_repaired_ones_keep_it(preset: str):
    for name in ("vp", "ve", "cosine"):
        if preset == "faithful":
            name = {"cosine": "cosine_beta"}.get(name, name)
        diffusion = replace(config(preset).diffusion, sigma_min=0.005, sigma_max=1.0, sigma_data=0.5, schedule=name,
                            start=None, stop=None)  # fmt: skip
        sigmas = policy(preset, diffusion=diffusion, action_scaling="none").objective.levels()
        ends = (sigmas[0], sigmas[-2])
        if preset == "default":
            assert ends == (1.0, 0.005) and all(b < a for a, b in pairwise(sigmas))
        elif name == "vp":
            assert sigmas[0] == pytest.approx(152, abs=0.5)
        elif name == "ve":
            assert sigmas[:3] == pytest.approx([1, 0.005, 2.5e-5])
        else:  # betas of three steps of the cosine schedule
            alphas = [math.cos((t / 3 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(4)]
            betas = [min(0.999, 1 - after / before) for before, after in pairwise(alphas)]
            assert sigmas == pytest.approx((*betas[::-1], 0.0))


def test_the_released_2m_sde_is_the_other_sde(preset: str):
    diffusion = replace(config(preset).diffusion, sampler="dpmpp_2m_sde")
    if preset == "default":
        with pytest.raises(FermoError, match="unknown sampler 'dpmpp_2m_sde'"):
            policy(preset, diffusion=diffusion)
        return
    named = policy(preset, diffusion=diffusion).select_action(observations())
    other = policy(preset, diffusion=replace(diffusion, sampler="dpmpp_sde")).select_action(observations())
    assert torch.equal(named, other)


# 7


def test_sampling_starts_as_wide_as_training_noised_or_narrower(preset: str):
    made = policy(preset)
    noise = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    started = float(made.objective.start(noise).std())
    data_std = float(edm(made).sigma_data)
    marginal = math.hypot(made.objective.levels()[0], data_std)
    expected = marginal if preset == "default" else 1.0
    assert started == pytest.approx(expected, rel=0.01)
    if preset == "faithful":
        assert marginal == pytest.approx(1.118, abs=1e-3)


# 10


def test_which_elements_make_a_goal_is_said_by_name_or_by_width(preset: str):
    made = policy(preset)
    kept = made.goals.scaled(torch.ones(1, 1, 10) * 9, made.observation_normalizer)[0, 0] != 0
    assert kept.nonzero()[:, 0].tolist() == [0, 1, 3, 4]
    asked = replace(config(preset), goal=replace(config(preset).goal, signals=("effector",)))
    counts = BesoPolicy(SPEC, asked).goals.counts.nonzero()[:, 0].tolist()
    assert counts == ([6, 7] if preset == "default" else [0, 1, 3, 4])


# 11


def test_a_one_signed_range_of_actions_is_widened_or_shrunk(preset: str):
    made, actions = policy(preset), data()[1]
    low, high = actions.amin(0), actions.amax(0)
    assert (made.clip.low < low).all() == (preset == "default") and (made.clip.high > high).all()
    kept = made.clip(low)
    assert torch.equal(kept, low) == (preset == "default")


# 12


def test_averaged_weights_are_copied_once_or_at_each_prediction(preset: str):
    made = policy(preset)
    last = [parameter.clone() for parameter in made.parameters()]
    average = [parameter + 0.1 for parameter in last]
    made.take_average(average)
    for _ in range(3):
        made.select_action(observations())
    same = all(torch.equal(a, b) for a, b in zip(made.parameters(), average, strict=True))
    assert same == (preset == "default")
    if preset == "faithful":
        assert made.average is not None and made.average.copies == 2 * 3
        assert all(torch.equal(a, b) for a, b in zip(made.parameters(), last, strict=True))


def test_either_way_the_averaged_weights_act_and_survive_a_checkpoint(preset: str, tmp_path):
    made, obs = policy(preset), observations()
    average = [parameter + 0.1 * torch.randn_like(parameter) for parameter in made.parameters()]
    before = made.predict_action_chunk(obs)
    made.take_average(average)
    action = made.predict_action_chunk(obs)
    assert not torch.allclose(action, before)
    loaded = load_checkpoint(save_checkpoint(made, tmp_path / "checkpoint"))
    assert torch.equal(loaded.predict_action_chunk(obs), action)


# 13


def test_weight_decay_spares_or_takes_biases_and_positions(preset: str):
    made = policy(preset).requires_grad_(True)
    trainer = BcTrainer(made, *data(), config=BcConfig(steps=1, weight_decay=0.5, lr=0.1, warmup_steps=0),
                        episode_index=torch.arange(300) // 100)  # fmt: skip
    decays = {id(p): group["weight_decay"] for group in trainer.optimizer.param_groups for p in group["params"]}
    assert len(decays) == len(list(made.parameters()))
    of = {name: decays[id(parameter)] for name, parameter in made.named_parameters()}
    assert of["network.head.weight"] == of["network.gpt.blocks.0.widen.weight"] == 0.5
    for name in ("network.positions", "network.gpt.norm.weight", "network.head.bias"):
        assert of[name] == (0.0 if preset == "default" else 0.5)
