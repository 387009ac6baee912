"""A compiled sampler gives what the policy gives step by step, from the same noise."""

import copy
from typing import Any

import pytest
import torch

from fermo.errors import FermoError
from fermo.policies.beso import compiled
from fermo.policies.beso.compiled import HalfNetwork
from fermo.policies.beso.config import DdpmConfig, Defects, DiffusionConfig, FlowConfig, GoalConfig
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.policies.windowed.config import RelationsConfig
from tests.policies.beso_policies import GOAL, observations, policy
from tests.policies.plants import fitted_policy

WORLDS = 5
# Tracing takes a second or two and compiling ten: each setting once, guidances with the first of them.
SETTINGS: dict[str, dict[str, Any]] = {
    "edm": {},
    "edm, chunk": {"chunk": 4, "execute": 2},
    "edm, heun": {"diffusion": DiffusionConfig(sampler="heun")},
    "edm, multistep": {"diffusion": DiffusionConfig(sampler="dpmpp_2m", schedule="karras", steps=4)},
    "edm, fresh noise": {"diffusion": DiffusionConfig(sampler="dpmpp_sde", steps=2), "chunk": 3},
    "edm, churn": {"diffusion": DiffusionConfig(sampler="euler", churn=1.0)},
    "edm, drifting past": {"noise_levels": "shared"},
    "ddpm": {"objective": "ddpm", "ddpm": DdpmConfig(training_steps=10, steps=3), "chunk": 2},
    "ddim": {"objective": "ddpm", "ddpm": DdpmConfig(sampler="ddim", steps=3)},
    "flow": {"objective": "flow", "flow": FlowConfig(steps=3), "chunk": 4},
    "flow, midpoint": {"objective": "flow", "flow": FlowConfig(integrator="midpoint", steps=2)},
    "perceptron": {"backbone": "perceptron", "relations": RelationsConfig(goal_offset=True, harmonics=2)},
    "as released": {"defects": Defects(narrow_start=True, shrinking_clip=True, swapped_average=True)},
}


def made_policy(name: str, guidance: float) -> BesoPolicy:
    made = policy(goal=GoalConfig(kind="future", guidance=guidance), **SETTINGS[name])
    made.set_goal(GOAL)
    return made


def actions(made: BesoPolicy, steps: int = 4) -> torch.Tensor:
    """With a reset of one world on the way, ``(steps, N, 2)``."""
    made.reset()
    taken = []
    for step in range(steps):
        if step == 2:
            made.reset(torch.arange(WORLDS) == 1)
        taken.append(made.select_action(observations(WORLDS, seed=step)))
    return torch.stack(taken)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function as it is handed to the compiler, run operation by operation: all but the compiler's own part."""
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)


@pytest.mark.parametrize(("name", "guidance"), [("edm", 0.0), ("edm", 1.0), *((name, 2.0) for name in SETTINGS)])
def test_the_traced_sampler_takes_the_same_actions(name: str, guidance: float, traced: None):
    made = made_policy(name, guidance)
    expected = actions(made)
    made.compile_sampler(WORLDS)
    torch.testing.assert_close(actions(made), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.timeout(900)  # the compiler's work, on a machine that may have other work
@pytest.mark.parametrize(
    ("name", "guidance"), [pytest.param("edm, fresh noise", 2.0, marks=pytest.mark.slow), ("flow", 1.0)]
)
def test_the_compiled_sampler_takes_the_same_actions(name: str, guidance: float):
    made = made_policy(name, guidance)
    expected = actions(made)
    made.compile_sampler(WORLDS)
    torch.testing.assert_close(actions(made), expected, atol=1e-4, rtol=1e-5)  # actions are of the order of ten


def test_any_number_of_decided_actions_runs_the_same_function(traced: None):
    made, obs = policy(chunk=4), observations(WORLDS)
    prefix = torch.full((WORLDS, 4, 2), 3.0)
    expected = [made.predict_action_chunk(obs, prefix[:, :count]) for count in range(5)]
    made.compile_sampler(WORLDS)
    for count in range(5):
        torch.testing.assert_close(made.predict_action_chunk(obs, prefix[:, :count]), expected[count])


def test_another_batch_is_refused_until_it_is_compiled(traced: None):
    made = policy()
    made.compile_sampler(WORLDS)
    with pytest.raises(FermoError, match=r"compiled for 5 worlds, not for 2: call compile_sampler\(2\)"):
        made.select_action(observations(2))
    made.compile_sampler(2)
    assert made.select_action(observations(2)).shape == (2, 2)
    assert made.select_action(observations(WORLDS)).shape == (WORLDS, 2)


def test_a_goal_that_begins_to_guide_is_refused_and_another_goal_is_not(traced: None):
    made = made_policy("edm", 2.0)
    made.compile_sampler(WORLDS)
    first = made.select_action(observations(WORLDS))
    made.reset()
    made.set_goal(-GOAL)
    assert not torch.allclose(made.select_action(observations(WORLDS)), first)
    made.set_goal(None)
    with pytest.raises(FermoError, match="compiled with a goal that guides it"):
        made.select_action(observations(WORLDS))


def test_weights_are_those_of_when_it_was_compiled_and_copies_and_checkpoints_have_none(traced: None, tmp_path):
    made, obs = policy(), observations(WORLDS)
    made.compile_sampler(WORLDS)
    expected = made.predict_action_chunk(obs)
    loaded = load_checkpoint(save_checkpoint(made, tmp_path / "checkpoint"))
    torch.testing.assert_close(loaded.predict_action_chunk(obs), expected)
    with torch.no_grad():
        made.network.head.bias.add_(1.0)  # type: ignore[union-attr]
    assert torch.equal(made.predict_action_chunk(obs), expected)
    assert not torch.allclose(copy.deepcopy(made).predict_action_chunk(obs), expected)


def test_gradients_are_computed_step_by_step(traced: None):
    made, obs = policy(), observations(WORLDS).requires_grad_()
    made.compile_sampler(WORLDS)
    made.predict_action_chunk(obs).sum().backward()
    assert obs.grad is not None and obs.grad.abs().sum() > 0


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_rounds_the_network_alone(half: Any, traced: None):
    made, obs = policy(chunk=3), observations(WORLDS)
    expected = made.predict_action_chunk(obs)
    made.compile_sampler(WORLDS, half=half)
    chunk = made.predict_action_chunk(obs)
    assert chunk.dtype == torch.float32
    spread = float((chunk - expected).abs().max() / expected.std())
    assert 0 < spread < 16 * torch.finfo(getattr(torch, half)).eps
    assert made.network.head.weight.dtype == torch.float32  # type: ignore[union-attr]


def test_a_half_network_answers_in_single_precision():
    half = HalfNetwork(torch.nn.Identity(), torch.float16)
    assert half(torch.ones(3)).dtype == torch.float32


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("half", [None, "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["edm", "edm, fresh noise", "flow"])
def test_one_cuda_graph_takes_the_same_actions(name: str, half: Any):
    made = made_policy(name, 2.0).cuda()
    obs = observations(WORLDS).cuda()
    expected = [made.select_action(obs) for _ in range(3)]
    made.compile_sampler(WORLDS, half=half)
    made.reset()
    tolerance = 1e-3 if half is None else 0.3
    for action in expected:
        torch.testing.assert_close(made.select_action(obs), action, atol=tolerance, rtol=tolerance)


def test_what_cannot_be_compiled_is_told(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(FermoError, match="at least 1 world"):
        policy().compile_sampler(0)
    with pytest.raises(FermoError, match="evaluates the network 100 times"):
        policy(objective="ddpm").compile_sampler(1)
    with pytest.raises(FermoError, match="a stream takes a share"):
        policy(chunk=3, stream=True, noise_levels="streaming").compile_sampler(1)
    with pytest.raises(FermoError, match="mlp_bc samples nothing"):
        fitted_policy("mlp_bc").compile_sampler(1)
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    with pytest.raises(FermoError, match=r"needs a C\+\+ compiler"):
        policy().compile_sampler(1)


def test_a_compiler_that_fails_is_told(monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no linker\nand more")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(FermoError, match="cannot be compiled here: no linker; do without"):
        policy().compile_sampler(1)
