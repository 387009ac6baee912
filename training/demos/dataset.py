"""A task's demonstrations on disk, as a LeRobotDataset v3.

Clean ones and recoveries, successes and failures; or, for a benchmark, what its curation keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fermo.envs.core.task import Task
from fermo.envs.registry import make_task
from fermo.policies.base import Policy
from fermo.training.data.writer import DatasetWriter
from fermo.training.demos.block_push_curation import BlockPushCuration
from fermo.training.demos.experts import INSTRUCTIONS
from fermo.training.demos.kitchen_curation import KitchenCuration
from fermo.training.demos.record import Disturbance, Episodes, EpisodicExpert, Expert, record_episodes


class Curation(Protocol):
    """What a benchmark demands of its demonstrations."""

    def attempts(self, count: int) -> int:
        """Episodes to record so that `count` are kept."""
        ...

    def keep(self, task: Any, made: Episodes, count: int, seed: int) -> Episodes:
        """The `count` of them that are kept, perhaps with further columns. `FermoError` where there are too few."""
        ...

    def review(self, task: Any, kept: Episodes) -> dict[str, int]:
        """What the kept ones are, as counts by title. `FermoError` where that is not the benchmark."""
        ...


@dataclass(frozen=True, kw_only=True)
class Demonstrator:
    """How a task is demonstrated.

    Attributes:
        robot_type: As LeRobot understands it, for example ``"so101"``.
        instruction: What is done, in plain words.
        make: Builds the task (from keyword overrides of its config) and its expert.
        disturbance: What disturbs the recoveries.
        recovery_starts: Config overrides of the task in which recoveries are recorded: wider starts.
        curation: What is kept, of recoveries too; everything when None. Only clean demonstrations are judged.
    """

    robot_type: str
    instruction: str
    make: Callable[..., tuple[Task, Expert | EpisodicExpert]]
    disturbance: Disturbance
    recovery_starts: dict[str, Any] = field(default_factory=dict)
    curation: Curation | None = None

    def recoveries(self, usual: int) -> int:
        """How many recoveries to record where nobody said: `usual`, but none in a benchmark's demonstrations."""
        return usual if self.curation is None else 0


def _pick_cube(**overrides: Any) -> tuple[Task, Expert]:
    from fermo.envs.tasks.so101_pick_cube import PickCube, PickCubeConfig
    from fermo.training.demos.pick_cube_expert import PickCubeExpert

    task = PickCube(PickCubeConfig(**overrides))
    return task, PickCubeExpert(task)


def _cart_pole(**overrides: Any) -> tuple[Task, Expert]:
    from fermo.envs.tasks.cart_pole import CartPole, CartPoleConfig
    from fermo.training.demos.cart_pole_expert import CartPoleExpert

    task = CartPole(CartPoleConfig(**overrides))
    return task, CartPoleExpert(task)


def _pendulum(**overrides: Any) -> tuple[Task, Expert]:
    from fermo.envs.tasks.pendulum import Pendulum, PendulumConfig
    from fermo.training.demos.pendulum_expert import PendulumExpert

    task = Pendulum(PendulumConfig(**overrides))
    return task, PendulumExpert(task)


def _block_push(**overrides: Any) -> tuple[Task, EpisodicExpert]:
    from fermo.envs.tasks.block_push import BlockPush, BlockPushConfig
    from fermo.training.demos.block_push_expert import BlockPushExpert

    task = BlockPush(BlockPushConfig(**overrides))
    return task, BlockPushExpert(task)


def _franka_kitchen(**overrides: Any) -> tuple[Task, EpisodicExpert]:
    from fermo.envs.tasks.franka_kitchen import FrankaKitchen, FrankaKitchenConfig
    from fermo.training.demos.kitchen_expert import KitchenExpert

    task = FrankaKitchen(FrankaKitchenConfig(**overrides))
    return task, KitchenExpert(task)


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
    ),
    "fermo/BlockPush-v0": Demonstrator(
        robot_type="planar_pin",
        instruction=INSTRUCTIONS["fermo/BlockPush-v0"],
        make=_block_push,
        # The expert still succeeds nine times in ten.
        disturbance=Disturbance(std=(0.005, 0.005)),
        curation=BlockPushCuration(),
    ),
    "fermo/FrankaKitchen-v0": Demonstrator(
        robot_type="panda",
        instruction=INSTRUCTIONS["fermo/FrankaKitchen-v0"],
        make=_franka_kitchen,
        # Four fifths of the expert's tries still succeed; the fingers travel less.
        disturbance=Disturbance(std=(0.2,) * 7 + (0.1,) * 2),
        curation=KitchenCuration(),
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
    )


def record_dataset(name: str, folder: Path, *, episodes: int, recoveries: int, seed: int,
                   demonstrator: Demonstrator | None = None, **overrides: Any) -> dict[str, int]:  # fmt: skip
    """Write a new dataset of clean and disturbed demonstrations; returns how many there are and how many succeeded.

    What else a curation counts is in the answer too.

    Args:
        name: Full name of the task.
        folder: The dataset; must not exist.
        episodes: Clean demonstrations.
        recoveries: Disturbed ones.
        seed: Of everything random.
        demonstrator: Who shows it; the scripted expert when None.
        overrides: Of the task's config.

    Raises:
        FermoError: `folder` exists, or what was recorded is not what the benchmark demands; then nothing is written.
    """
    how = demonstrator or DEMONSTRATORS[name]
    kinds = (("demonstrations", episodes, {}, None), ("recoveries", recoveries, how.recovery_starts, how.disturbance))
    counts: dict[str, int] = {}
    spec = how.make(**overrides)[0].spec
    with DatasetWriter(folder, spec=spec, robot_type=how.robot_type, tasks=(how.instruction,)) as writer:
        for offset, (title, count, starts, disturbance) in enumerate(kinds):
            if not count:
                continue
            # Other seeds for other kinds, or both would start from the same states.
            made, facts = _recorded(how, overrides | starts, count, seed + offset, disturbance, f"recording {title}")
            _write(writer, made, how.instruction)
            counts |= {title: count, f"successful {title}": int(made.success.sum())} | facts
    return counts


def _recorded(how: Demonstrator, overrides: dict[str, Any], count: int, seed: int, disturbance: Disturbance | None,
              progress: str) -> tuple[Episodes, dict[str, int]]:  # fmt: skip
    """Episodes of one kind, and what the curation says of them."""
    task, expert = how.make(**overrides)
    attempts = how.curation.attempts(count) if how.curation else count
    made = record_episodes(task, expert, episodes=attempts, seed=seed, disturbance=disturbance, progress=progress)
    if how.curation is None:
        return made, {}
    made = how.curation.keep(task, made, count, seed)
    return made, {} if disturbance else how.curation.review(task, made)


def _write(writer: DatasetWriter, made: Episodes, instruction: str) -> None:
    for number, length in enumerate(made.lengths.tolist()):
        columns = {name: rows[number].expand(length, -1).numpy() for name, rows in made.columns.items()}
        observations, actions = (rows[number, :length].numpy() for rows in (made.observations, made.actions))
        writer.add_episode(observations, actions, success=bool(made.success[number]), task=instruction, extras=columns)
