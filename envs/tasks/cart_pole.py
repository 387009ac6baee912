"""Balance a pole on a cart: an unstable plant with smooth dynamics, on which closed-loop guarantees can be checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import torch
from torch import Tensor

from fermo.assets.scenes import scene_path
from fermo.envs.core.constants import constant
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Simulation, Task
from fermo.errors import FermoError
from fermo.signal import PlantSpec, Signal


@dataclass(frozen=True, kw_only=True)
class CartPoleConfig:
    """Where the state starts, what it costs and when the pole has fallen; states are (x, angle, x', angle').

    Attributes:
        start: Half widths of the box of starting states [m, rad, m/s, rad/s].
        state_cost: Diagonal of Q in the stage cost ``s' Q s + r u^2`` [1/m^2, 1/rad^2, s^2/m^2, s^2/rad^2].
        force_cost: r [1/N^2].
        fall_cost: Paid once, for a fall: more than an episode at the edge would cost.
        fall_angle: The pole has fallen beyond this lean [rad].
        track: The cart has left the track beyond this distance [m].
        episode_s: Length of an episode [s].
    """

    start: tuple[float, float, float, float] = (0.2, 0.1, 0.2, 0.2)
    state_cost: tuple[float, float, float, float] = (1.0, 1.0, 0.1, 0.1)
    force_cost: float = 0.1
    fall_cost: float = 1000.0
    fall_angle: float = 0.5
    track: float = 2.4
    episode_s: float = 10.0

    def __post_init__(self) -> None:
        costs = (*self.start, *self.state_cost, self.fall_cost)
        if not (min(costs) >= 0 and min(self.force_cost, self.track, self.episode_s) > 0):
            raise FermoError(f"force_cost, track, episode_s must be positive, other values not negative: {self}")
        if not 0 < self.fall_angle < math.pi:
            raise FermoError(f"fall_angle must lie between 0 and pi rad, got {self.fall_angle}")


class CartPole(Task):
    """`fermo/CartPole-v0`: physics at 200 Hz, policy at 50 Hz, 10 s; the action is the force on the cart [N]."""

    name = "fermo/CartPole-v0"
    substeps = 4
    upright = (0.1, 0.5)
    """Success is a lean [rad] and an angular velocity [rad/s], in that order, below these."""

    def __init__(self, config: CartPoleConfig | None = None) -> None:
        self.config = config or CartPoleConfig()
        self.model = mujoco.MjModel.from_xml_path(scene_path("cart_pole"))
        self.low, self.high = low, high = tuple(self.model.actuator_ctrlrange[0].tolist())
        self.spec = PlantSpec(
            observations=(
                Signal.uniform(name="cart_position", shape=(1,), unit="m", description="along the rail"),
                Signal.uniform(name="pole_angle", shape=(1,), unit="rad", description="0 upright, positive to +x"),
                Signal.uniform(name="cart_velocity", shape=(1,), unit="m/s"),
                Signal.uniform(name="pole_velocity", shape=(1,), unit="rad/s"),
            ),
            commands=(Signal.uniform(name="cart_force", shape=(1,), unit="N", low=low, high=high,
                                     description="on the cart, along the rail"),),
            rate_hz=1.0 / self.control_dt,
        )  # fmt: skip
        self.max_steps = round(self.config.episode_s * self.spec.rate_hz)

    def initial_state(self, random: WorldRandom) -> tuple[Tensor, Tensor]:
        """Uniform in the box of starting states."""
        unit = random.uniform("start", (4,), low=-1.0, high=1.0)
        state = constant(self.config.start, unit.device) * unit
        return state[:, :2], state[:, 2:]

    def ctrl(self, action: Tensor, sim: Simulation) -> Tensor:
        """What of the force the motor can give, ``(N, 1)`` [N]."""
        return action.clamp(self.low, self.high)

    def observation(self, sim: Simulation) -> dict[str, Tensor]:
        """The state, signal by signal."""
        qpos, qvel = sim["qpos"], sim["qvel"]
        return {
            "cart_position": qpos[:, :1], "pole_angle": qpos[:, 1:],
            "cart_velocity": qvel[:, :1], "pole_velocity": qvel[:, 1:],
        }  # fmt: skip

    def terminated(self, sim: Simulation) -> Tensor:
        """The pole has fallen, or the cart has left the track."""
        position, angle = sim["qpos"].unbind(dim=1)
        return (angle.abs() > self.config.fall_angle) | (position.abs() > self.config.track)

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Minus the stage cost at the state reached: state, force, and the fall."""
        state = torch.cat([sim["qpos"], sim["qvel"]], dim=1)
        weights = constant(self.config.state_cost, state.device).to(state.dtype)
        return {
            "state": -(weights * state.square()).sum(dim=1),
            "force": -self.config.force_cost * sim["ctrl"][:, 0].square(),
            "fall": -self.config.fall_cost * self.terminated(sim).to(state.dtype),
        }

    def success(self, sim: Simulation) -> Tensor:
        """The pole stands and does not fall, with the cart on the track."""
        angle, speed = sim["qpos"][:, 1].abs(), sim["qvel"][:, 1].abs()
        return (angle < self.upright[0]) & (speed < self.upright[1]) & ~self.terminated(sim)
