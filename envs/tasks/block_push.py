"""Push two blocks into two targets, in any of four ways: the Block-Push benchmark of multimodal imitation.

P. Florence et al., "Implicit behavioral cloning", CoRL 2021; two targets of which either block may take either, and the
reward, are those of N. Shafiullah et al., "Behavior Transformers", NeurIPS 2022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import torch
from torch import Tensor

from fermo.assets.scenes import scene_path
from fermo.envs.core.constants import constant
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Sensor, Simulation, Task
from fermo.envs.tasks import block_push_metrics as metrics
from fermo.errors import FermoError
from fermo.signal import PlantSpec, Signal

BLOCKS = ("block_1", "block_2")
GOAL_SIGNALS = tuple(f"{block}_position" for block in BLOCKS)
"""What a goal is made of: where the blocks shall lie, whichever way they got there."""

START = (0.3, -0.4)
"""Where the effector begins [m]."""

_BLOCK_HEIGHT = 0.02
_CENTRE, _SPREAD = (0.4, -0.2), (0.1, 0.15)  # of the blocks' starts
_APART = 0.1  # in x, of the blocks' starts
_TARGET_X, _TARGET_Y, _TARGET_OFFSET = 0.4, 0.2, 0.12
_TARGET_SPREAD = (0.005, 0.0075)


@dataclass(frozen=True, kw_only=True)
class BlockPushConfig:
    """What counts and how fast the effector may go.

    Attributes:
        tolerance: A block nearer than this to a target sits in it [m].
        max_step: Longest displacement of the effector's target in one step [m]; longer ones are shortened to it.
        episode_s: Length of an episode [s].
        observe_targets: Whether the targets' positions are observed. The benchmark does without: where the blocks shall
            go is then told by a goal, or learned.
    """

    tolerance: float = 0.05
    max_step: float = 0.035
    episode_s: float = 30.0
    observe_targets: bool = False

    def __post_init__(self) -> None:
        for name in ("tolerance", "max_step", "episode_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise FermoError(f"{name} must be positive and finite, got {getattr(self, name)}")


class Targets:
    """Where the two targets lie, and when each block first sat in each.

    Attributes:
        position: Shape ``(N, 2, 2)`` over (target, xy) [m].
        entries: Step of the first entry of block b into target t, 0 for none, shape ``(N, 2, 2)`` int64.
    """

    def __init__(self, task: BlockPush, num_worlds: int, device: torch.device) -> None:
        self._task = task
        self.position = torch.zeros(num_worlds, 2, 2, dtype=torch.float64, device=device)
        self.entries = torch.zeros(num_worlds, 2, 2, dtype=torch.int64, device=device)

    def reset(self, mask: Tensor, sim: Simulation) -> None:
        """Draw targets for the worlds of `mask`; nothing has been in them yet."""
        chosen = mask[:, None, None]
        self.position = torch.where(chosen, self._task.draw_targets(sim.random), self.position)
        self.entries = self.entries.masked_fill(chosen, 0)

    def update(self, sim: Simulation) -> None:
        """Note what sits in a target for the first time."""
        new = self._task.inside(sim) & (self.entries == 0)
        self.entries = torch.where(new, sim.steps[:, None, None], self.entries)


class EffectorTarget:
    """Where the effector is sent, shape ``(N, 2)`` [m]; displacements add up here, not where the effector has got."""

    def __init__(self, task: BlockPush, num_worlds: int, device: torch.device) -> None:
        self._max_step = task.config.max_step
        low, high = task.model.actuator_ctrlrange.T
        self._low, self._high = constant(tuple(low.tolist()), device), constant(tuple(high.tolist()), device)
        self.position = torch.zeros(num_worlds, 2, dtype=torch.float64, device=device)

    def reset(self, mask: Tensor, sim: Simulation) -> None:
        """Back to where the effector begins."""
        self.position = torch.where(mask[:, None], constant(START, mask.device), self.position)

    def update(self, sim: Simulation) -> None:
        """It moves with the action, see `move`."""

    def move(self, displacement: Tensor) -> Tensor:
        """Move by `displacement` ``(N, 2)`` [m], at most `max_step` long and not out of the workspace."""
        length = displacement.norm(dim=1, keepdim=True)
        capped = displacement * (self._max_step / length.clamp_min(self._max_step))
        self.position = (self.position + capped).clamp(self._low, self._high)
        return self.position


class BlockPush(Task):
    """`fermo/BlockPush-v0`: two blocks, two targets, either way round; 10 Hz, 30 s; actions displace the pin's target.

    The reward is 0.49 whenever a block sits in a target in which it never was, and 0.51 instead when both sit in
    different ones, which ends the episode: 1 in all, more for one that tried both targets with a block.
    """

    name = "fermo/BlockPush-v0"
    substeps = 50

    def __init__(self, config: BlockPushConfig | None = None) -> None:
        self.config = config or BlockPushConfig()
        self.model = mujoco.MjModel.from_xml_path(scene_path("block_push"))
        self.blocks_qpos = tuple(int(self.model.joint(name).qposadr[0]) for name in BLOCKS)
        self.effector_qpos = int(self.model.joint("effector_x").qposadr[0])
        low, high = self.model.actuator_ctrlrange.T
        bounds = {"shape": (2,), "unit": "m", "low": tuple(low.tolist()), "high": tuple(high.tolist())}
        observed = [signal for name in BLOCKS for signal in (
            Signal.uniform(name=f"{name}_position", shape=(2,), unit="m", device="tracker", description="x and y"),
            Signal.uniform(name=f"{name}_yaw", shape=(1,), unit="rad", device="tracker",
                           description="in (-pi, pi]; a quarter turn looks the same"),
        )]  # fmt: skip
        observed += [
            Signal.uniform(name="effector_position", shape=(2,), unit="m", description="of the pin, x and y"),
            Signal(name="effector_target", description="where the pin is sent", **bounds),
        ]
        if self.config.observe_targets:
            observed += [Signal.uniform(name=f"target_{i}_position", shape=(2,), unit="m") for i in (1, 2)]
        longest = self.config.max_step
        command = Signal.uniform(name="effector_displacement", shape=(2,), unit="m", low=-longest, high=longest,
                                 description=f"added to the pin's target; shortened to {longest:g} m")  # fmt: skip
        self.spec = PlantSpec(observations=tuple(observed), commands=(command,), rate_hz=1.0 / self.control_dt)
        self.max_steps = round(self.config.episode_s * self.spec.rate_hz)

    def initial_state(self, random: WorldRandom) -> tuple[Tensor, Tensor]:
        """The effector at `START`; the blocks anywhere in their field at any yaw, more than 10 cm apart in x.

        Block 1 is drawn first, block 2 uniformly from what that leaves.
        """
        u = random.uniform("start blocks", (2, 3), low=-1.0, high=1.0)
        qpos = constant(tuple(self.model.qpos0.tolist()), u.device).repeat(len(u), 1)
        x1 = _SPREAD[0] * u[:, 0, 0]
        side = torch.where(x1 < 0.0, 1.0, -1.0)
        x2 = x1 + side * (_APART + x1.abs() * (0.5 + 0.5 * u[:, 1, 0]))
        y, half = _CENTRE[1] + _SPREAD[1] * u[:, :, 1], 0.5 * math.pi * u[:, :, 2]
        zero = torch.zeros_like(x1)
        for i, (start, x) in enumerate(zip(self.blocks_qpos, (x1, x2), strict=True)):
            pose = [_CENTRE[0] + x, y[:, i], zero + _BLOCK_HEIGHT, half[:, i].cos(), zero, zero, half[:, i].sin()]
            qpos[:, start : start + 7] = torch.stack(pose, dim=1)
        qpos[:, self.effector_qpos : self.effector_qpos + 2] = constant(START, u.device)
        return qpos, torch.zeros(len(u), self.model.nv, dtype=torch.float64, device=u.device)

    def draw_targets(self, random: WorldRandom) -> Tensor:
        """The episode's targets [m], ``(N, 2, 2)`` over (target, xy): to the left and right, mirrored by chance."""
        u = random.uniform("targets", (2, 2), low=-1.0, high=1.0)
        side = torch.where(random.uniform("mirrored") < 0.5, 1.0, -1.0).to(u.dtype)
        offset = torch.stack([-side, side], dim=1) * _TARGET_OFFSET
        x = _TARGET_X + offset + _TARGET_SPREAD[0] * u[:, :, 0]
        return torch.stack([x, _TARGET_Y + _TARGET_SPREAD[1] * u[:, :, 1]], dim=2)

    def make_sensors(self, num_worlds: int, device: torch.device) -> dict[str, Sensor]:
        """The targets, and where the effector is sent."""
        return {"targets": Targets(self, num_worlds, device), "effector": EffectorTarget(self, num_worlds, device)}

    def ctrl(self, action: Tensor, sim: Simulation) -> Tensor:
        """Where the effector is sent, ``(N, 2)`` [m]."""
        return sim.sensors["effector"].move(action)

    def block_positions(self, qpos: Tensor) -> Tensor:
        """Where the blocks lie [m], ``(..., 2, 2)`` over (block, xy), for `qpos` ``(..., nq)``."""
        return torch.stack([qpos[..., start : start + 2] for start in self.blocks_qpos], dim=-2)

    def observation(self, sim: Simulation) -> dict[str, Tensor]:
        """Poses of the blocks in the plane, and of the effector."""
        qpos = sim["qpos"]
        observed = {
            "effector_position": qpos[:, self.effector_qpos : self.effector_qpos + 2],
            "effector_target": sim.sensors["effector"].position,
        }
        for name, start in zip(BLOCKS, self.blocks_qpos, strict=True):
            observed[f"{name}_position"] = qpos[:, start : start + 2]
            observed[f"{name}_yaw"] = _yaw(qpos[:, start + 3 : start + 7])[:, None]
        if self.config.observe_targets:
            target_1, target_2 = sim.sensors["targets"].position.unbind(dim=1)
            observed |= {"target_1_position": target_1, "target_2_position": target_2}
        return observed

    def inside(self, sim: Simulation) -> Tensor:
        """Whether block b sits in target t now, ``(N, 2, 2)`` bool over (b, t)."""
        blocks = self.block_positions(sim["qpos"])
        return metrics.inside(blocks, sim.sensors["targets"].position, self.config.tolerance)

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """What entered a target for the first time, until both sit."""
        done = self.success(sim)
        new = (sim.sensors["targets"].entries == sim.steps[:, None, None]).flatten(1).sum(dim=1)
        return {"entered": 0.49 * new.double() * ~done, "placed": 0.51 * done.double()}

    def terminated(self, sim: Simulation) -> Tensor:
        """Both blocks sit."""
        return self.success(sim)

    def success(self, sim: Simulation) -> Tensor:
        """Both blocks sit in targets that differ."""
        return metrics.placed(self.inside(sim))


def _yaw(quaternion: Tensor) -> Tensor:
    """Rotation about the vertical ``(N,)`` [rad] of quaternions w x y z ``(N, 4)``."""
    w, x, y, z = quaternion.unbind(dim=1)
    return torch.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
