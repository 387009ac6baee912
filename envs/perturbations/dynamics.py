"""Model parameters that differ from the nominal ones for a whole episode: masses, friction, servos."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import mujoco
import torch
from torch import Tensor

from fermo.assets.scenes.so101 import CUBE_MASS
from fermo.envs.perturbations.base import Perturbation
from fermo.errors import FermoError

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv

Index = tuple[int | slice | list[int], ...]


class ModelParameter(Perturbation):
    """Scales some elements of model fields; constants that MuJoCo derives from them follow.

    Fields are written at once, and again when an episode begins in worlds whose severity has changed since, so a fixed
    severity costs nothing. In a captured environment only a schedule may change it. Several parameters compose as long
    as they own different elements.
    """

    @abstractmethod
    def elements(self, model: mujoco.MjModel) -> dict[str, Index]:
        """The elements scaled, as an index into each model field.

        Raises:
            FermoError: The model has nothing of the kind.
        """

    def compiled_severity(self, model: mujoco.MjModel) -> float:
        """The severity that describes the compiled model; elements are scaled by ``severity / compiled_severity``."""
        return self.nominal

    def attach(self, env: VectorEnv) -> None:
        """See `Perturbation.attach`."""
        super().attach(env)
        model = env.backend.model
        self._elements = self.elements(model)
        self._nominal = {
            field: torch.as_tensor(getattr(model, field)[index], dtype=torch.float64, device=env.device)
            for field, index in self._elements.items()
        }
        self._compiled = self.compiled_severity(model)
        self._applied = torch.full_like(self.severity, self._compiled)
        self._apply(env, self.severity != self._applied)

    def reset(self, env: VectorEnv, mask: Tensor) -> None:
        """See `Perturbation.reset`."""
        if self.scheduled or not env.captured:
            self._apply(env, mask & (self.severity != self._applied))

    def retune(self, env: VectorEnv) -> None:
        """See `Perturbation.retune`."""
        self._apply(env, self.severity != self._applied)

    def _apply(self, env: VectorEnv, worlds: Tensor) -> None:
        if not env.captured and not worlds.any():
            return
        factor = self.severity / self._compiled
        for field, index in self._elements.items():
            rows = env.backend.get_param(field)
            scaled = factor.reshape(-1, *[1] * self._nominal[field].ndim) * self._nominal[field]
            rows[(slice(None), *index)] = scaled.to(rows.dtype)
            env.backend.set_param(field, rows, worlds)
        self._applied = torch.where(worlds, self.severity, self._applied)


class CubeMass(ModelParameter):
    """Mass of the body called ``"cube"``; its inertia scales along, as that of a cube of another material would."""

    name = "cube_mass"
    unit = "kg"
    nominal = CUBE_MASS
    low = 0.001
    high = 2.0

    def elements(self, model: mujoco.MjModel) -> dict[str, Index]:
        """See `ModelParameter.elements`."""
        cube = body_id(model, "cube", self.name)
        return {"body_mass": (cube,), "body_inertia": (cube,)}

    def compiled_severity(self, model: mujoco.MjModel) -> float:
        """See `ModelParameter.compiled_severity`."""
        return float(model.body("cube").mass[0])


class Friction(ModelParameter):
    """Factor on the sliding friction of every geom.

    All geoms, because a MuJoCo contact takes the larger coefficient of its two geoms: scaling one of them alone does
    nothing over a part of the range.
    """

    name = "friction"
    unit = "1"
    nominal = 1.0
    low = 0.001
    high = 10.0

    def elements(self, model: mujoco.MjModel) -> dict[str, Index]:
        """See `ModelParameter.elements`."""
        every = slice(None)
        # A predefined pair carries both tangential coefficients of its own.
        pairs: dict[str, Index] = {"pair_friction": (every, slice(0, 2))} if model.npair else {}
        return {"geom_friction": (every, 0), **pairs}


class ServoGain(ModelParameter):
    """Factor on the stiffness kp of every position servo."""

    name = "servo_gain"
    unit = "1"
    nominal = 1.0
    low = 0.05
    high = 10.0

    def elements(self, model: mujoco.MjModel) -> dict[str, Index]:
        """See `ModelParameter.elements`."""
        affine = model.actuator_biastype == int(mujoco.mjtBias.mjBIAS_AFFINE)
        servo = affine & (model.actuator_biasprm[:, 1] == -model.actuator_gainprm[:, 0])
        servos = servo.nonzero()[0].tolist()
        if not servos:
            raise FermoError(f"{self.name} scales position servos; this model has none among its {model.nu} actuators")
        # Force = kp (ctrl - length) - kv speed: kp stands in both rows.
        return {"actuator_gainprm": (servos, 0), "actuator_biasprm": (servos, 1)}


class JointDamping(ModelParameter):
    """Factor on the viscous damping of every joint."""

    name = "joint_damping"
    unit = "1"
    nominal = 1.0
    low = 0.0
    high = 10.0

    def elements(self, model: mujoco.MjModel) -> dict[str, Index]:
        """See `ModelParameter.elements`."""
        if not model.dof_damping.any():
            raise FermoError(f"{self.name} scales joint damping, and every joint of this model has none")
        return {"dof_damping": (slice(None),)}


class ActuatorForceLimit(ModelParameter):
    """Factor on the force or torque each actuator can give, as with a sagging supply."""

    name = "actuator_force_limit"
    unit = "1"
    nominal = 1.0
    low = 0.0
    high = 10.0

    def elements(self, model: mujoco.MjModel) -> dict[str, Index]:
        """See `ModelParameter.elements`."""
        limited = model.actuator_forcelimited.astype(bool).nonzero()[0].tolist()
        if not limited:
            raise FermoError(f"{self.name} scales force limits, and none of this model's {model.nu} actuators has one")
        return {"actuator_forcerange": (limited,)}


def body_id(model: mujoco.MjModel, body: str, user: str) -> int:
    """Number of a body by name.

    Raises:
        FermoError: There is none; the message lists those that exist.
    """
    number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, body)
    if number < 0:
        names = ", ".join(model.body(i).name for i in range(1, model.nbody))
        raise FermoError(f"{user} needs a body called {body!r}; this model has {names}")
    return number
