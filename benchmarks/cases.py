"""A task by name as a case to compare, and the physics that every contender shares."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import mujoco
import torch

from fermo.benchmarks.contender import Case
from fermo.benchmarks.record import record
from fermo.envs.registry import make_task
from fermo.errors import FermoError, unknown_name


def fill_in(case: Case, folder: Path) -> tuple[Case, str]:
    """The case with its trace in `folder` and what peers need to know of its model, and its physics for people."""
    task = make_task(case.task)
    trace_file = folder / "trace.npz"
    record(task, case).save(trace_file)
    file, model = _gymnasium_file(task.config), task.engine_model(case.backend)
    nconmax, njmax = _buffers(model) if case.backend == "warp" else (0, 0)
    filled = dataclasses.replace(case, trace_file=str(trace_file), model_file=str(file or ""), substeps=task.substeps,
                                 nconmax=nconmax, njmax=njmax)  # fmt: skip
    said = describe_physics(model, task.substeps)
    if file:
        said += f"; the very XML that Gymnasium ships, {file.name}"
    if nconmax:
        said += f"; room for {nconmax} contacts and {njmax} constraint rows a world"
    return filled, said


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


def _buffers(model: mujoco.MjModel) -> tuple[int, int]:
    """Contacts and constraint rows that fermo's warp back end would make room for; everybody gets as many."""
    from fermo.envs.core.backend import make_backend

    sizes: dict[str, int] = make_backend("warp", model, 1, device="cpu").sizes  # type: ignore[attr-defined]
    return sizes["nconmax"], sizes["njmax"]


def _gymnasium_file(config: object) -> Path | None:
    """The MJCF of a task that Gymnasium ships, None for the others."""
    name = getattr(config, "xml_file", None)
    if name is None:
        return None
    return Path(importlib.import_module("gymnasium").__file__ or "").parent / "envs/mujoco/assets" / name
