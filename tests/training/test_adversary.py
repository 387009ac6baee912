"""A trained adversary: it faces the very policy and plant it is used against, and hurts more than chance."""

from __future__ import annotations

import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

pytest.importorskip("rsl_rl")
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.perturbations.registry import make_perturbation
from fermo.envs.registry import make_task
from fermo.training.bench.adversary import AdversaryTask, train_adversary
from fermo.training.bench.evaluate import evaluate

TASK = make_task("InvertedPendulum")
SCALE = torch.tensor([0.1, 0.05, 0.3, 0.3])
GAIN = torch.tensor([[1.0, 12.0, 1.6, 2.4]])


def balance(obs: Tensor) -> Tensor:
    """Keeps the pole up for as long as nobody lies about it."""
    return (obs.float() @ GAIN.T).clamp(-3.0, 3.0)


@pytest.mark.parametrize("name", ["InvertedPendulum", "Ant", "SO101-PickCube"])
def test_the_victims_world_is_the_one_that_the_perturbation_makes(name: str) -> None:
    task, severity = make_task(name), 0.3
    size, commands = task.spec.observation_size, task.spec.command_size
    mix = torch.randn(commands, size, generator=torch.Generator().manual_seed(0)) / size
    scale = torch.linspace(0.5, 1.5, size)

    def victim(obs: Tensor) -> Tensor:
        return torch.tanh(obs.float() @ mix.T)

    def adversary(obs: Tensor) -> Tensor:
        return torch.cos(5.0 * obs.float())

    attack = make_perturbation("learned_attack", severity, adversary=adversary, scale=scale)
    shifted = VectorEnv(task, 3, seed=2, autoreset_mode=AutoresetMode.DISABLED, perturbations=[attack])
    game = VectorEnv(AdversaryTask(task, victim, severity=severity, scale=scale), 3, seed=2,
                     autoreset_mode=AutoresetMode.DISABLED)  # fmt: skip
    seen, true = shifted.reset()[0], game.reset()[0]
    for _ in range(5):
        seen, reward, terminated, _, _ = shifted.step(victim(seen))
        true, gain, ended, _, _ = game.step(adversary(true))
        torch.testing.assert_close(gain, -reward)
        torch.testing.assert_close(game.sim["qpos"], shifted.sim["qpos"])
        assert torch.equal(terminated, ended)


@pytest.mark.slow
def test_a_trained_adversary_brings_down_what_random_signs_do_not() -> None:
    adversary = train_adversary(TASK, balance, severity=1.0, scale=SCALE, backend_options={"num_threads": 1})

    def score(name: str, **options: object) -> float:
        perturbation = make_perturbation(name, 1.0, scale=SCALE, **options)
        return float(evaluate(TASK, balance, episodes=16, seed=5, perturbations=[perturbation]).returns.mean())

    by_chance, attacked = score("observation_sign_noise"), score("learned_attack", adversary=adversary.select_action)
    assert by_chance > 900 and attacked < 0.5 * by_chance
