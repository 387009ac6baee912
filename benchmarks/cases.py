"""A task by name as a case to compare, and the physics that every contender shares."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import mujoco
import torch

from fermo.benchmarks.contender import Case
from fermo.benchmarks.registry import LIFT
from fermo.envs.registry import TASKS, make_task, task_id
from fermo.errors import FermoError, unknown_name


def full_name(name: str) -> str:
    """The registered name of a task, or robosuite's Lift, from a short one."""
    if name.lower() in ("lift", LIFT.lower()):
        return LIFT
    try:
        return task_id(name)
    except FermoError as error:
        raise FermoError(f"{error}, {LIFT}") from None


def fill_in(case: Case) -> tuple[Case, str]:
    """The case with its model file and substeps, and its physics for people."""
    if case.task not in TASKS:
        return case, "the model and the settings that robosuite compiles for Lift with a Panda"
    task = make_task(case.task)
    file = _gymnasium_file(task.config)
    said = describe_physics(task.model, task.substeps)
    return dataclasses.replace(case, model_file=str(file or ""), substeps=task.substeps), (
        f"{said}; the very XML that Gymnasium ships, {file.name}" if file else said
    )


def describe_physics(model: mujoco.MjModel, substeps: int) -> str:
    """Substeps, integrator and solver of a model."""
    option = model.opt
    solver, integrator, cone = (
        str(kind(value).name).partition("_")[2].lower()
        for kind, value in ((mujoco.mjtSolver, option.solver), (mujoco.mjtIntegrator, option.integrator),
                            (mujoco.mjtCone, option.cone))
    )  # fmt: skip
    return (
        f"{substeps} substeps of {option.timestep:g} s, integrator {integrator}, solver {solver} of at most "
        f"{option.iterations} iterations, {cone} cones"
    )


def existing_device(backend: str, device: str | None) -> str:
    """The device to use: as asked, or the warp back end's own choice; refuses one that is not there before any work."""
    if backend == "cpu":
        if device not in (None, "cpu"):
            raise FermoError(f"the cpu back end has no device {device}: leave it out, or take --backend warp")
        return "cpu"
    count = torch.cuda.device_count()
    known = ["cpu", *["cuda"][:count], *(f"cuda:{index}" for index in range(count))]
    if device is not None and device not in known:
        raise unknown_name("device", device, known)
    return device or ("cuda" if count else "cpu")


def _gymnasium_file(config: object) -> Path | None:
    """The MJCF of a task that Gymnasium ships, None for the others."""
    name = getattr(config, "xml_file", None)
    if name is None:
        return None
    return Path(importlib.import_module("gymnasium").__file__ or "").parent / "envs/mujoco/assets" / name
