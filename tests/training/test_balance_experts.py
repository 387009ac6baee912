"""The scripted experts of CartPole and Pendulum: what they do, how smoothly, and the path from them to a policy."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fermo.cli import main
from fermo.controllers.lqr import solve_lqr
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.tasks.cart_pole import CartPole, CartPoleConfig
from fermo.envs.tasks.pendulum import Pendulum
from fermo.training.bench.evaluate import TEST_SEED, evaluate
from fermo.training.demos.cart_pole_expert import CartPoleExpert
from fermo.training.demos.pendulum_expert import PendulumExpert
from fermo.training.guarantee.linearize import linearize


def test_the_regulator_balances_every_start() -> None:
    task = CartPole()
    outcome = evaluate(task, CartPoleExpert(task), episodes=64, seed=TEST_SEED)
    assert outcome.success.all() and (outcome.lengths == task.max_steps).all()


def test_the_regulator_pays_what_its_riccati_equation_promises() -> None:
    """From small starts, where the plant is linear; rewards are for states reached, so the start's cost is not paid."""
    task = CartPole(CartPoleConfig(start=(0.02, 0.01, 0.02, 0.02)))
    expert = CartPoleExpert(task)
    paid = -evaluate(task, expert, episodes=16, seed=0).returns
    upright = linearize(task, np.zeros(4), np.zeros(1))
    cost = np.diag(task.config.state_cost)
    P = solve_lqr(upright.A, upright.B, cost, np.array([[task.config.force_cost]])).P
    start = VectorEnv(task, 16, seed=0).reset()[0].double()
    promised = torch.einsum("ni,ij,nj->n", start, torch.tensor(P - cost), start)
    torch.testing.assert_close(paid, promised, rtol=2e-2, atol=1e-6)


def test_the_pendulum_is_swung_up_from_anywhere_by_a_motor_that_cannot_lift_it() -> None:
    task = Pendulum()
    assert evaluate(task, PendulumExpert(task), episodes=128, seed=TEST_SEED).success.all()


def test_the_pump_adds_energy_below_the_top() -> None:
    task = Pendulum()
    expert = PendulumExpert(task)
    angle = torch.linspace(math.pi / 2, 3 * math.pi / 2, 9, dtype=torch.float64)
    for velocity in (-1.0, -0.1, 0.1, 1.0):
        obs = torch.stack([torch.cos(angle), torch.sin(angle), torch.full_like(angle, velocity)], dim=1)
        assert (expert(obs)[:, 0] * velocity > 0).all()


def test_the_pendulums_expert_is_continuous() -> None:
    """Between neighbours the torque changes in proportion: halving the distance halves the largest change."""
    expert = PendulumExpert(Pendulum())
    generator = torch.Generator().manual_seed(0)
    unit = 2.0 * torch.rand(2, 4096, generator=generator, dtype=torch.float64) - 1.0
    angle, velocity = math.pi * unit[0], 8.0 * unit[1]

    def change(distance: float) -> float:
        here, there = (torch.stack([torch.cos(a), torch.sin(a), velocity], dim=1) for a in (angle, angle + distance))
        return float((expert(here) - expert(there)).abs().max())

    assert change(1e-5) == pytest.approx(change(1e-6) * 10, rel=0.2)


@pytest.mark.parametrize("name", ["CartPole", "Pendulum"])
def test_record_train_eval_and_bench_run_end_to_end(name: str, tmp_path: Path) -> None:
    run, data, score, grid = (tmp_path / part for part in ("run", "data", "eval.json", "grid.json"))
    main(["record", name, "--episodes", "2", "--recoveries", "2", "--folder", str(data)])
    main(["train", name, "lipschitz_bc", "--data", str(data), "--folder", str(run), "--training.steps", "5",
          "--training.warmup-steps", "1", "--policy.hidden", "8"])  # fmt: skip
    checkpoint = str(run / "train/checkpoint")
    main(["eval", checkpoint, "--episodes", "2", "--json", str(score)])
    main(["bench", checkpoint, "--worlds", "1", "--only", "gradient_attack", "--json", str(grid)])
    assert json.loads(score.read_text())["trials"] == 2
    assert json.loads(grid.read_text())["curves"][0]["kind"] == "gradient_attack"
    robot = {"CartPole": "cart_pole", "Pendulum": "pendulum"}[name]
    assert json.loads((data / "meta/info.json").read_text())["robot_type"] == robot
