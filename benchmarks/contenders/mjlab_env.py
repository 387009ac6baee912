"""mjlab's manager-based environment over the task's own MJCF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import torch
from mjlab.actuator.xml_actuator import XmlActuatorCfg  # pyright: ignore[reportMissingImports]  it has its own MuJoCo
from mjlab.entity import EntityArticulationInfoCfg, EntityCfg  # pyright: ignore[reportMissingImports]
from mjlab.envs import ManagerBasedRlEnv, ManagerBasedRlEnvCfg, mdp  # pyright: ignore[reportMissingImports]
from mjlab.managers.event_manager import EventTermCfg  # pyright: ignore[reportMissingImports]
from mjlab.managers.observation_manager import (  # pyright: ignore[reportMissingImports]
    ObservationGroupCfg,
    ObservationTermCfg,
)
from mjlab.managers.reward_manager import RewardTermCfg  # pyright: ignore[reportMissingImports]
from mjlab.managers.scene_entity_config import SceneEntityCfg  # pyright: ignore[reportMissingImports]
from mjlab.managers.termination_manager import TerminationTermCfg  # pyright: ignore[reportMissingImports]
from mjlab.scene import SceneCfg  # pyright: ignore[reportMissingImports]
from mjlab.sim import MujocoCfg, SimulationCfg  # pyright: ignore[reportMissingImports]

from fermo.benchmarks.contender import Case, Contender, NotForThisCaseError

_ROBOT = SceneEntityCfg("robot")
# The terms of Gymnasium's tasks that mjlab can say: forward velocity, control cost, being healthy.
_HEALTHY_HEIGHT = {"Ant-v5": (0.2, 1.0), "Humanoid-v5": (1.0, 2.0), "Hopper-v5": (0.7, 9.9), "Walker2d-v5": (0.8, 2.0)}


class Mjlab(Contender):
    """`ManagerBasedRlEnv` with its automatic reset: joint and root state observed, two reward terms, height checked."""

    def prepare(self) -> None:
        """See `Contender.prepare`."""
        if not self.case.model_file:
            raise NotForThisCaseError(f"{self.case.task} is no single MJCF file that mjlab could load")
        self._model = mujoco.MjModel.from_xml_path(self.case.model_file)
        low, high = self._model.actuator_ctrlrange.T
        self._actions = torch.from_numpy(self.case.actions(low, high)).to(self.case.device)

    def make(self) -> int:
        """See `Contender.make`."""
        self._env = ManagerBasedRlEnv(_config(self.case, self._model), device=self.case.device)
        self._env.reset()
        self._step = 0
        self.note = f"MuJoCo {mujoco.__version__}, fewer observations than Gymnasium's task"
        return self.case.num_envs

    def step(self) -> None:
        """See `Contender.step`."""
        self._env.step(self._actions[self._step % len(self._actions)])
        self._step += 1

    def finish(self) -> None:
        """See `Contender.finish`."""
        if self.case.device.startswith("cuda"):
            torch.cuda.synchronize(self.case.device)


def forward_velocity(env: Any) -> torch.Tensor:
    """Velocity along x [m/s], ``(N,)``."""
    data = env.scene["robot"].data
    return data.joint_vel[:, 0] if env.scene["robot"].is_fixed_base else data.root_link_lin_vel_w[:, 0]


def control_cost(env: Any) -> torch.Tensor:
    """Squared actions, ``(N,)``."""
    return env.action_manager.action.square().sum(dim=1)


def root_height(env: Any) -> torch.Tensor:
    """Height of the root [m], ``(N, 1)``."""
    return env.scene["robot"].data.root_link_pos_w[:, 2:3]


def unhealthy(env: Any, low: float, high: float) -> torch.Tensor:
    """Whether the root is too low or too high, ``(N,)``."""
    height = root_height(env)[:, 0]
    return (height < low) | (height > high)


def _config(case: Case, model: mujoco.MjModel) -> ManagerBasedRlEnvCfg:
    driven = tuple(model.joint(joint).name for joint in model.actuator_trnid[:, 0])
    floating = model.jnt_type[0] == int(mujoco.mjtJoint.mjJNT_FREE)
    terms = {"joint_pos": mdp.joint_pos_rel, "joint_vel": mdp.joint_vel_rel}
    terminations = {"time_out": TerminationTermCfg(func=mdp.time_out, time_out=True)}
    if floating:
        terms |= {"height": root_height, "velocity": mdp.base_lin_vel, "turning": mdp.base_ang_vel,
                  "gravity": mdp.projected_gravity}  # fmt: skip
        low, high = _HEALTHY_HEIGHT[case.gymnasium_id]
        terminations["unhealthy"] = TerminationTermCfg(func=unhealthy, params={"low": low, "high": high})
    offsets = {"position_range": (-0.1, 0.1), "velocity_range": (-0.1, 0.1), "asset_cfg": _ROBOT}
    return ManagerBasedRlEnvCfg(
        decimation=case.substeps, seed=case.seed, episode_length_s=1000 * case.substeps * model.opt.timestep,
        scene=SceneCfg(num_envs=case.num_envs, entities={"robot": _robot(case, driven)}),
        sim=SimulationCfg(nconmax=case.nconmax, njmax=case.njmax, mujoco=_physics(model)),
        observations={"actor": ObservationGroupCfg({name: ObservationTermCfg(func=each, params=_of_robot(each))
                                                    for name, each in terms.items()})},
        actions={"effort": mdp.JointEffortActionCfg(entity_name="robot", actuator_names=driven, scale=1.0)},
        events={"start": EventTermCfg(func=mdp.reset_scene_to_default, mode="reset"),
                "noise": EventTermCfg(func=mdp.reset_joints_by_offset, mode="reset", params=offsets)},
        rewards={"forward": RewardTermCfg(func=forward_velocity, weight=1.0),
                 "control": RewardTermCfg(func=control_cost, weight=-0.1)},
        terminations=terminations,
    )  # fmt: skip


def _robot(case: Case, driven: tuple[str, ...]) -> EntityCfg:
    """The whole MJCF as one entity, the floor included."""
    return EntityCfg(
        spec_fn=lambda: mujoco.MjSpec.from_file(case.model_file),
        articulation=EntityArticulationInfoCfg(actuators=(XmlActuatorCfg(target_names_expr=driven),)),
        init_state=EntityCfg.InitialStateCfg(pos=tuple(mujoco.MjModel.from_xml_path(case.model_file).qpos0[:3])),
    )


@dataclass(kw_only=True)
class OptionsOfTheFile(MujocoCfg):
    """The MJCF's own options, among them RK4, for which mjlab has no name; its scene would override them.

    Attributes:
        file_integrator: An ``mjtIntegrator``.
    """

    file_integrator: int

    def apply(self, model: mujoco.MjModel) -> None:
        """Write them into the compiled scene."""
        super().apply(model)
        model.opt.integrator = self.file_integrator


def _physics(model: mujoco.MjModel) -> OptionsOfTheFile:
    option = model.opt
    return OptionsOfTheFile(
        timestep=option.timestep, file_integrator=int(option.integrator), solver="newton",
        cone="elliptic" if option.cone == mujoco.mjtCone.mjCONE_ELLIPTIC else "pyramidal",
        iterations=option.iterations, ls_iterations=option.ls_iterations, tolerance=option.tolerance,
        impratio=option.impratio,
    )  # fmt: skip


def _of_robot(term: Any) -> dict[str, Any]:
    return {} if term is root_height else {"asset_cfg": _ROBOT}
