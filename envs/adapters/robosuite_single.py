"""A plain robosuite environment as a `gymnasium.Env`: robosuite's own step, for comparison and for tasks we lack."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from fermo.envs.adapters.robosuite import make_robosuite, quietly
from fermo.signal import PlantSpec, Signal

_UNITS = {"joint_pos": "rad", "joint_vel": "rad/s", "joint_acc": "rad/s^2", "gripper_qpos": "m", "gripper_qvel": "m/s",
          "hinge_qpos": "rad", "handle_qpos": "rad"}  # fmt: skip


class RobosuiteEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Any environment of robosuite for one arm, with the Panda, its state observations laid end to end.

    robosuite never ends an episode but by its horizon, so `step` truncates and never terminates; ``info["success"]``
    says whether the task stands solved.

    Args:
        environment: robosuite's name, for example ``"Lift"``.
        **arguments: Of that environment, for example ``reward_shaping=True`` or ``horizon=200``.

    Attributes:
        plant: The observations by name, in order, and the action.

    Raises:
        FermoError: robosuite is not installed, or refuses the arguments.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - as gymnasium.Env declares it

    def __init__(self, environment: str, **arguments: Any) -> None:
        self.robosuite = make_robosuite(environment, **arguments)
        low, high = self.robosuite.action_spec
        action = Signal(name="action", shape=low.shape, unit="1", low=tuple(low), high=tuple(high))
        observed = self._states(self.robosuite.observation_spec())
        self.plant = PlantSpec(
            observations=tuple(
                Signal.uniform(name=name, shape=value.shape, unit=_unit(name)) for name, value in observed.items()
            ),
            commands=(action,),
            rate_hz=float(self.robosuite.control_freq),
        )
        size = self.plant.observation_size
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        self.action_space = gymnasium.spaces.Box(low.astype(np.float32), high.astype(np.float32))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode; a seed makes it and those after it repeatable."""
        super().reset(seed=seed)
        if seed is not None:  # in place: robosuite's samplers hold the generator too
            self.robosuite.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        with quietly():
            return self._flat(self.robosuite.reset()), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance by one control step."""
        obs, reward, done, _ = self.robosuite.step(action)
        return self._flat(obs), float(reward), False, bool(done), {"success": bool(self.robosuite._check_success())}

    def close(self) -> None:
        """Free robosuite's simulation."""
        self.robosuite.close()

    def _flat(self, obs: dict[str, Any]) -> np.ndarray:
        return np.concatenate([value.ravel() for value in self._states(obs).values()])

    @staticmethod
    def _states(obs: dict[str, Any]) -> dict[str, np.ndarray]:
        """Every observable once: robosuite adds each modality's all over again under a name that ends in ``-state``."""
        return {
            name: np.atleast_1d(np.asarray(value, np.float64))
            for name, value in obs.items()
            if not name.endswith("-state")
        }


def _unit(name: str) -> str:
    """SI unit of an observable: lengths are what names no angle, ratio or velocity."""
    known = next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), None)
    return known or ("1" if any(part in name for part in ("quat", "_cos", "_sin", "_id")) else "m")
