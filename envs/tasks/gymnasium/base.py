"""What Gymnasium's MuJoCo environments share: model file, frame skip, reset noise, observed coordinates."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import mujoco
import torch
from torch import Tensor

from fermo.envs.core import host
from fermo.envs.core.constants import constant
from fermo.envs.core.post_constraint import add_post_constraint
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Simulation, Task
from fermo.envs.tasks.gymnasium.arithmetic import sum_squares, weighted
from fermo.errors import FermoError
from fermo.signal import PlantSpec, Signal

_ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
_JOINT = mujoco.mjtJoint
# Name, unit and number of the coordinates of a joint.
_POSITIONS = {
    _JOINT.mjJNT_FREE: (("root_position", "m", 3), ("root_orientation", "1", 4)),
    _JOINT.mjJNT_BALL: (("ball_orientation", "1", 4),),
    _JOINT.mjJNT_SLIDE: (("root_position", "m", 1),),
    _JOINT.mjJNT_HINGE: (("joint_position", "rad", 1),),
}
_VELOCITIES = {
    _JOINT.mjJNT_FREE: (("root_velocity", "m/s", 3), ("root_angular_velocity", "rad/s", 3)),
    _JOINT.mjJNT_BALL: (("ball_angular_velocity", "rad/s", 3),),
    _JOINT.mjJNT_SLIDE: (("root_velocity", "m/s", 1),),
    _JOINT.mjJNT_HINGE: (("joint_velocity", "rad/s", 1),),
}


@dataclass(frozen=True, kw_only=True)
class GymnasiumConfig:
    """Arguments every environment has; names and defaults are Gymnasium's.

    Attributes:
        xml_file: Model file, a path or the name of one that Gymnasium ships.
        frame_skip: Physics steps per action.
        reset_noise_scale: Size of the noise on the initial state.
        episode_steps: Actions after which an episode is truncated.
    """

    xml_file: str
    frame_skip: int
    reset_noise_scale: float
    episode_steps: int = 1000

    def __post_init__(self) -> None:
        if self.frame_skip < 1 or self.episode_steps < 1 or self.reset_noise_scale < 0:
            raise FermoError(f"frame_skip and episode_steps start at 1, reset_noise_scale at 0: got {self}")


@dataclass(frozen=True, kw_only=True)
class LocomotionConfig(GymnasiumConfig):
    """Arguments of everything that walks.

    Attributes:
        ctrl_cost_weight: Cost of the squared controls.
        exclude_current_positions_from_observation: Leave out where on the floor the robot is.
    """

    ctrl_cost_weight: float
    exclude_current_positions_from_observation: bool = True


class GymnasiumTask(Task):
    """A v5 environment of Gymnasium.

    Derived quantities are read one physics step late, as Gymnasium reads them after ``mj_step``; hence no refresh.

    Attributes:
        floor_coordinates: How many of ``qpos`` say where on the floor the robot is.
        velocity_limit: Observed velocities are clipped to it; None where they are not.
        normal_velocity_noise: Whether initial velocities are normal rather than uniform.
        contact_forces_needed: Whether the task reads ``cfrc_ext``.
    """

    dtype = torch.float64
    refresh = False
    config: GymnasiumConfig
    floor_coordinates = 0
    velocity_limit: float | None = None
    normal_velocity_noise = False
    contact_forces_needed = False

    def __init__(self, config: GymnasiumConfig) -> None:
        self.config = config
        self.model = _compile(_read_spec(config.xml_file))
        self.substeps = config.frame_skip
        self.max_steps = config.episode_steps
        exclude = isinstance(config, LocomotionConfig) and config.exclude_current_positions_from_observation
        self._positions = _coordinate_signals(self.model, _POSITIONS, skip=self.floor_coordinates if exclude else 0)
        self._velocities = _coordinate_signals(self.model, _VELOCITIES)
        low, high = self.model.actuator_ctrlrange.T
        control = Signal(name="control", shape=(self.model.nu,), unit="1", low=tuple(low), high=tuple(high),
                         description="actuator controls; the model's gears turn them into forces")  # fmt: skip
        coordinates = tuple(signal for signal, _ in self._positions + self._velocities)
        self.spec = PlantSpec(observations=coordinates + self.derived_signals(), commands=(control,),
                              rate_hz=1.0 / self.control_dt)  # fmt: skip

    def engine_model(self, backend: str) -> mujoco.MjModel:
        """MuJoCo itself needs help to keep contact forces on bodies; mujoco_warp offers them, but not every solver.

        It has no projected Gauss-Seidel (PGS), which Gymnasium's Humanoid and HumanoidStandup ask for, so there the
        Newton solver finds the same constraint forces: the two minimise one convex cost, Newton to a tighter tolerance.
        """
        if backend == "warp" and self.model.opt.solver == mujoco.mjtSolver.mjSOL_PGS:
            model = copy.copy(self.model)
            model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
            return model
        if backend != "cpu" or not self.contact_forces_needed:
            return self.model
        spec = _read_spec(self.config.xml_file)
        add_post_constraint(spec)
        return _compile(spec)

    def derived_signals(self) -> tuple[Signal, ...]:
        """What is observed beside positions and velocities."""
        return ()

    def derived_observation(self, sim: Simulation) -> dict[str, Tensor]:
        """The values of `derived_signals`."""
        return {}

    def initial_state(self, random: WorldRandom) -> tuple[Tensor, Tensor]:
        """The model's reference pose at rest, with noise on every coordinate."""
        scale, model = self.config.reset_noise_scale, self.model
        qpos = random.uniform("initial qpos", (model.nq,), low=-scale, high=scale)
        if self.normal_velocity_noise:
            qvel = scale * random.normal("initial qvel", (model.nv,))
        else:
            qvel = random.uniform("initial qvel", (model.nv,), low=-scale, high=scale)
        return constant(tuple(model.qpos0), qpos.device) + qpos, qvel

    def observation(self, sim: Simulation) -> dict[str, Tensor]:
        """Positions, velocities, then what the environment adds."""
        qpos, qvel = sim["qpos"], sim["qvel"]
        if self.velocity_limit is not None:
            qvel = qvel.clamp(-self.velocity_limit, self.velocity_limit)
        terms = {signal.name: qpos[:, where] for signal, where in self._positions}
        terms |= {signal.name: qvel[:, where] for signal, where in self._velocities}
        return terms | self.derived_observation(sim)

    def velocity(self, before: Tensor, after: Tensor) -> Tensor:
        """Mean velocity over the control step, from two positions."""
        return (after - before) / self.control_dt

    def control_cost(self, control: Tensor) -> Tensor:
        """``ctrl_cost_weight`` times the squared controls, ``(N,)``; `control` keeps the precision it was given in."""
        assert isinstance(self.config, LocomotionConfig)
        return weighted(self.config.ctrl_cost_weight, sum_squares(control))

    def contact_forces(self, sim: Simulation) -> Tensor:
        """Forces of the contacts on each body, ``(N, nbody, 6)`` [N m, N]; zero before the first step."""
        known, forces = (sim.steps > 0) & ~sim.backend.failed, sim["cfrc_ext"]
        if host.on_host(known) and known.all():
            return forces
        return torch.where(known[:, None, None], forces, 0.0)


def body_signal(model: mujoco.MjModel, name: str, width: int, unit: str, description: str) -> Signal:
    """A signal of `width` numbers for each body but the world."""
    return Signal.uniform(name=name, shape=(model.nbody - 1, width), unit=unit, description=description)


def _read_spec(xml_file: str) -> mujoco.MjSpec:
    path = Path(xml_file).expanduser()
    if path.parent == Path("."):
        path = _ASSETS / path
    if not path.is_file():
        shipped = ", ".join(sorted(file.name for file in _ASSETS.glob("*.xml")))
        raise FermoError(f"model file {xml_file!r} does not exist: give a path, or one of Gymnasium's own {shipped}")
    return mujoco.MjSpec.from_file(str(path))


def _compile(spec: mujoco.MjSpec) -> mujoco.MjModel:
    with warnings.catch_warnings():  # half_cheetah.xml uses it; the file is Gymnasium's
        warnings.filterwarnings("ignore", message=".*settotalmass.*")
        return spec.compile()


def _coordinate_signals(model: mujoco.MjModel, kinds: dict, skip: int = 0) -> tuple[tuple[Signal, slice], ...]:
    """Runs of coordinates of one kind, in the model's order, without the first `skip`."""
    runs: list[tuple[str, str, int, int]] = []
    end = 0
    for joint_type in model.jnt_type:
        for name, unit, count in kinds[_JOINT(joint_type)]:
            start, end = end, end + count
            if runs and runs[-1][0] == name:
                start = runs.pop()[2]
            if end > skip:
                runs.append((name, unit, max(start, skip), end))
    signals = []
    for index, (name, unit, start, stop) in enumerate(runs):
        again = sum(run[0] == name for run in runs[:index])
        unique = f"{name}_{again + 1}" if again else name
        signals.append((Signal.uniform(name=unique, shape=(stop - start,), unit=unit), slice(start, stop)))
    return tuple(signals)
