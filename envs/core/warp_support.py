"""What the Warp back end runs on and which models it can simulate."""

from __future__ import annotations

import mujoco
import torch
import warp as wp

from fermo.envs.core.backend import BackendError


def find_device(name: str | None) -> torch.device:
    """The device called ``"cuda"``, ``"cuda:1"`` or ``"cpu"``; the first CUDA device, or else the CPU, when None.

    Raises:
        BackendError: This machine has no such device.
    """
    wp.init()
    cuda = [device.alias for device in wp.get_cuda_devices()]
    name = name or [*cuda, "cpu"][0]
    wanted = f"{name}:0" if name == "cuda" else name
    if wanted != "cpu" and wanted not in cuda:
        raise BackendError(f"no device {name!r} for the warp back end; this machine has {', '.join(['cpu', *cuda])}")
    return torch.device(wanted)


def check_supported(model: mujoco.MjModel) -> None:
    """Raise `BackendError` for features that mujoco_warp would ignore; it refuses others itself."""
    if model.nplugin and (model.geom_plugin == -1).all():
        raise BackendError("the warp back end runs no engine plugins, and this model has one; use the cpu back end")
    if model.nhistory:
        raise BackendError("the warp back end runs no models with sensor or actuator delays; use the cpu back end")
    if model.opt.enableflags & int(mujoco.mjtEnableBit.mjENBL_SLEEP):
        raise BackendError("the warp back end puts no bodies to sleep; clear the model's sleep flag or use cpu")
