"""How far single precision on Warp departs from double precision on MuJoCo, from the same states and controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray

from fermo.envs.core.backend import Backend, make_backend
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Task

HOLD = 5
"""Control steps for which a random control is held: long enough to move something."""


class Divergence(NamedTuple):
    """Differences of positions between two engines, T control steps of N worlds.

    Attributes:
        drift: Largest difference of a coordinate [m or rad] after each step when both run on from the common start,
            shape ``(T, N)``.
        one_step: The same after one step when Warp starts it from MuJoCo's state, ``(T, N)``.
        contact: The first step in which a world has a contact, ``(N,)``; T where it never has one.
    """

    drift: NDArray[np.float64]
    one_step: NDArray[np.float64]
    contact: NDArray[np.int64]

    def growth(self) -> dict[str, float | None]:
        """Factor by which the drift grows in a step, in the median, before contacts begin and since.

        Drifts below the resolution of float32 at 1 are left out: their ratios say nothing.
        """
        before, after = self.drift[:-1], self.drift[1:]
        counts = (before > np.finfo(np.float32).eps) & (after > 0)
        ratio = np.divide(after, before, out=np.ones_like(after), where=counts)
        touching = np.arange(1, len(self.drift))[:, None] >= self.contact
        phases = {"free": counts & ~touching, "contact": counts & touching}
        return {name: float(np.median(ratio[chosen])) if chosen.any() else None for name, chosen in phases.items()}


def measure(task: Task, worlds: int, steps: int, *, seed: int = 0, device: str | None = None,
            progress: Callable[[int], object] = lambda _: None) -> Divergence:  # fmt: skip
    """Step a task's model in both engines with random controls.

    Both get the model as Warp needs it, so that they differ in arithmetic and algorithms and not in their settings.

    Args:
        task: Gives the model, the starting states and the substeps.
        worlds: N.
        steps: T control steps.
        seed: Of starts and controls.
        device: Of the Warp back end.
        progress: Called after each step with its number.

    Raises:
        BackendError: No such device, a model that Warp cannot simulate, or buffers that overflow.
    """
    model = task.engine_model("warp")
    random = WorldRandom(seed, torch.arange(worlds), torch.zeros(worlds, dtype=torch.int64))
    qpos, qvel = task.initial_state(random)
    exact = make_backend("cpu", model, worlds)
    single, nudged = (make_backend("warp", model, worlds, device=device) for _ in range(2))
    for backend in (exact, single):
        everyone = torch.ones(worlds, dtype=torch.bool, device=backend.device)
        backend.reset(everyone, qpos.to(backend.device), qvel.to(backend.device))
        backend.forward(everyone)
    looking = mujoco.MjData(model)
    drift, one_step = np.zeros((steps, worlds)), np.zeros((steps, worlds))
    contact = np.full(worlds, steps)
    for step in range(steps):
        ctrl = _controls(model, random, step)
        nudged.set_state(exact.get_state().to(nudged.device, nudged.dtype))
        for backend in (exact, single, nudged):
            backend.step(ctrl.to(backend.device), task.substeps)
        drift[step], one_step[step] = _difference(single, exact), _difference(nudged, exact)
        for world in np.flatnonzero(contact == steps):
            if _touches(model, looking, exact.get_state()[world].numpy()):
                contact[world] = step
        progress(step + 1)
    single.check()
    return Divergence(drift, one_step, contact)


def _controls(model: mujoco.MjModel, random: WorldRandom, step: int) -> torch.Tensor:
    """Uniform within the actuators' ranges, or within one of zero where they have none, ``(N, nu)``."""
    low, high = torch.as_tensor(model.actuator_ctrlrange.copy()).T
    limited = torch.as_tensor(model.actuator_ctrllimited != 0)
    low, high = torch.where(limited, low, -1.0), torch.where(limited, high, 1.0)
    return low + (high - low) * random.uniform("divergence", (model.nu,), step=step // HOLD)


def _difference(one: Backend, other: Backend) -> NDArray[np.float64]:
    return (one.read("qpos").cpu().double() - other.read("qpos")).abs().amax(dim=1).numpy()


def _touches(model: mujoco.MjModel, data: mujoco.MjData, state: NDArray[np.float64]) -> bool:
    mujoco.mj_setState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
    mujoco.mj_fwdPosition(model, data)
    return data.ncon > 0
