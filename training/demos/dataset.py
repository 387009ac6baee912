"""A task's demonstrations on disk: clean ones and recoveries, successes and failures, as a LeRobotDataset v3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fermo.envs.core.task import Task
from fermo.envs.registry import make_task
from fermo.policies.base import Policy
from fermo.training.data.writer import DatasetWriter
from fermo.training.demos.experts import INSTRUCTIONS
from fermo.training.demos.record import Disturbance, Expert, record_episodes


@dataclass(frozen=True, kw_only=True)
class Demonstrator:
    """How a task is demonstrated.

    Attributes:
        robot_type: As LeRobot understands it, for example ``"so101"``.
        instruction: What is done, in plain words.
        make: Builds the task (from keyword overrides of its config) and its expert.
        disturbance: What disturbs the recoveries.
        recovery_starts: Config overrides of the task in which recoveries are recorded: wider starts.
    """

    robot_type: str
    instruction: str
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
        instruction=INSTRUCTIONS["fermo/SO101-PickCube-v0"],
        make=_pick_cube,
        # Large enough that clones meet what their own mistakes lead to: half of it cost a fifth of their successes.
        disturbance=Disturbance(std=(0.10, 0.10, 0.10, 0.10, 0.15, 0.20)),
        recovery_starts={"start_spread": 0.2},
    ),
    "fermo/CartPole-v0": Demonstrator(
        robot_type="cart_pole",
        instruction=INSTRUCTIONS["fermo/CartPole-v0"],
        make=_cart_pole,
        disturbance=Disturbance(std=(2.0,)),
        recovery_starts={"start": (0.4, 0.15, 0.4, 0.4)},
    ),
    "fermo/Pendulum-v0": Demonstrator(
        robot_type="pendulum",
        instruction=INSTRUCTIONS["fermo/Pendulum-v0"],
        make=_pendulum,
        disturbance=Disturbance(std=(1.0,)),
        recovery_starts={},
    ),
}


def policy_demonstrator(task: Task, policy: Policy) -> Demonstrator:
    """A trained policy as the demonstrator of `task`; recoveries are disturbed by a tenth of each command's range."""
    bounds = [(low, high) for signal in task.spec.commands for low, high in zip(signal.low, signal.high, strict=True)]
    name = task.name.removeprefix("fermo/")

    def make(**overrides: Any) -> tuple[Task, Expert]:
        policy.reset()
        return make_task(task.name, **overrides), policy.select_action

    return Demonstrator(
        robot_type=name,
        instruction=f"Do what {policy.family} does in {name}.",
        make=make,
        disturbance=Disturbance(std=tuple((high - low) / 10 for low, high in bounds)),
        recovery_starts={},
    )


def record_dataset(name: str, folder: Path, *, episodes: int, recoveries: int, seed: int,
                   demonstrator: Demonstrator | None = None, **overrides: Any) -> dict[str, int]:  # fmt: skip
    """Write a new dataset of clean and disturbed demonstrations; returns how many there are and how many succeeded.

    Args:
        name: Full name of the task.
        folder: The dataset; must not exist.
        episodes: Clean demonstrations.
        recoveries: Disturbed ones.
        seed: Of everything random.
        demonstrator: Who shows it; the scripted expert when None.
        overrides: Of the task's config.
    """
    how = demonstrator or DEMONSTRATORS[name]
    kinds = (("demonstrations", episodes, {}, None), ("recoveries", recoveries, how.recovery_starts, how.disturbance))
    counts: dict[str, int] = {}
    spec = how.make(**overrides)[0].spec
    with DatasetWriter(folder, spec=spec, robot_type=how.robot_type, tasks=(how.instruction,)) as writer:
        for offset, (title, count, starts, disturbance) in enumerate(kinds):
            if not count:
                continue
            task, expert = how.make(**(overrides | starts))
            # Other seeds for other kinds, or both would start from the same states.
            made = record_episodes(task, expert, episodes=count, seed=seed + offset, disturbance=disturbance,
                                   progress=f"recording {title}")  # fmt: skip
            episodes_made = zip(made.observations, made.actions, made.lengths, made.success, strict=True)
            for observations, actions, length, success in episodes_made:
                writer.add_episode(observations[:length].numpy(), actions[:length].numpy(), success=bool(success),
                                   task=how.instruction)  # fmt: skip
            counts |= {title: count, f"successful {title}": int(made.success.sum())}
    return counts
