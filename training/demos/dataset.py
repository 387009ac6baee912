"""A task's demonstrations on disk: clean ones and recoveries, successes and failures, as a LeRobotDataset v3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fermo.envs.core.task import Task
from fermo.training.data.writer import DatasetWriter
from fermo.training.demos.experts import INSTRUCTIONS
from fermo.training.demos.record import Disturbance, record_episodes


@dataclass(frozen=True, kw_only=True)
class Demonstrator:
    """How a task is demonstrated.

    Attributes:
        robot_type: As LeRobot understands it, for example ``"so101"``.
        make: Builds the task (from keyword overrides of its config) and its expert.
        disturbance: What disturbs the recoveries.
        recovery_starts: Config overrides of the task in which recoveries are recorded: wider starts.
    """

    robot_type: str
    make: Callable[..., tuple[Task, Callable[[Tensor], Tensor]]]
    disturbance: Disturbance
    recovery_starts: dict[str, Any]


def _pick_cube(**overrides: Any) -> tuple[Task, Callable[[Tensor], Tensor]]:
    from fermo.envs.tasks.so101_pick_cube import PickCube, PickCubeConfig
    from fermo.training.demos.pick_cube_expert import PickCubeExpert

    task = PickCube(PickCubeConfig(**overrides))
    return task, PickCubeExpert(task)


def _cart_pole(**overrides: Any) -> tuple[Task, Callable[[Tensor], Tensor]]:
    from fermo.envs.tasks.cart_pole import CartPole, CartPoleConfig
    from fermo.training.demos.cart_pole_expert import CartPoleExpert

    task = CartPole(CartPoleConfig(**overrides))
    return task, CartPoleExpert(task)


def _pendulum(**overrides: Any) -> tuple[Task, Callable[[Tensor], Tensor]]:
    from fermo.envs.tasks.pendulum import Pendulum, PendulumConfig
    from fermo.training.demos.pendulum_expert import PendulumExpert

    task = Pendulum(PendulumConfig(**overrides))
    return task, PendulumExpert(task)


DEMONSTRATORS: dict[str, Demonstrator] = {
    "fermo/SO101-PickCube-v0": Demonstrator(
        robot_type="so101",
        make=_pick_cube,
        # Large enough that clones meet what their own mistakes lead to: half of it cost a fifth of their successes.
        disturbance=Disturbance(std=(0.10, 0.10, 0.10, 0.10, 0.15, 0.20)),
        recovery_starts={"start_spread": 0.2},
    ),
    "fermo/CartPole-v0": Demonstrator(
        robot_type="cart_pole",
        make=_cart_pole,
        disturbance=Disturbance(std=(2.0,)),
        recovery_starts={"start": (0.4, 0.15, 0.4, 0.4)},
    ),
    "fermo/Pendulum-v0": Demonstrator(
        robot_type="pendulum", make=_pendulum, disturbance=Disturbance(std=(1.0,)), recovery_starts={}
    ),
}


def record_dataset(name: str, folder: Path, *, episodes: int, recoveries: int, seed: int,
                   **overrides: Any) -> dict[str, int]:  # fmt: skip
    """Write a new dataset of clean and disturbed demonstrations; returns how many there are and how many succeeded.

    Args:
        name: Full name of a task that has an expert.
        folder: The dataset; must not exist.
        episodes: Clean demonstrations.
        recoveries: Disturbed ones.
        seed: Of everything random.
        overrides: Of the task's config.
    """
    how, instruction = DEMONSTRATORS[name], INSTRUCTIONS[name]
    kinds = (("demonstrations", episodes, {}, None), ("recoveries", recoveries, how.recovery_starts, how.disturbance))
    counts: dict[str, int] = {}
    spec = how.make(**overrides)[0].spec
    with DatasetWriter(folder, spec=spec, robot_type=how.robot_type, tasks=(instruction,)) as writer:
        for offset, (title, count, starts, disturbance) in enumerate(kinds):
            if not count:
                continue
            task, expert = how.make(**(overrides | starts))
            # Other seeds for other kinds, or both would start from the same states.
            made = record_episodes(task, expert, episodes=count, seed=seed + offset, disturbance=disturbance,
                                   progress=f"recording {title}")  # fmt: skip
            for observations, actions, success in zip(made.observations, made.actions, made.success, strict=True):
                writer.add_episode(observations.numpy(), actions.numpy(), success=bool(success), task=instruction)
            counts |= {title: count, f"successful {title}": int(made.success.sum())}
    return counts
