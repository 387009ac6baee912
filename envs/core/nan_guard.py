"""What happens when physics diverges: the world is frozen, its last good state written down, the others run on."""

from __future__ import annotations

import contextlib
import json
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import mujoco
from safetensors.torch import load_file, save_file
from torch import Tensor

from fermo.envs.core import post_constraint
from fermo.envs.core.backend import BackendError
from fermo.errors import FermoError

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv


class DivergedWorldWarning(UserWarning):
    """A world's state stopped being finite; the message says where its replay lies."""


def report(env: VectorEnv, ctrl: Tensor, worlds: list[int]) -> list[Path]:
    """Write a replayable folder for each world and warn once, naming them.

    A dump holds ``model.mjb`` (with that world's parameters), ``state.safetensors`` (``state (nstate,)`` before the
    step that failed and ``ctrl (nu,)`` that was applied) and ``dump.json``.
    """
    root = env.dump_folder or Path(tempfile.gettempdir()) / "fermo-dumps"
    root.mkdir(parents=True, exist_ok=True)
    state = env.backend.get_state()
    folders = []
    for world in worlds:
        episode, step = int(env.episode[world]), int(env.steps[world])
        folder = Path(tempfile.mkdtemp(prefix=f"world{world}-episode{episode}-step{step}-", dir=root))
        mujoco.mj_saveModel(env.backend.world_model(world), str(folder / "model.mjb"), None)
        rows = {"state": state[world], "ctrl": ctrl[world].detach()}
        save_file({key: row.cpu().double().contiguous() for key, row in rows.items()}, folder / "state.safetensors")
        about = {"task": env.task.name, "seed": env.seed, "world": world, "episode": episode, "step": step,
                 "substeps": env.task.substeps}  # fmt: skip
        (folder / "dump.json").write_text(json.dumps(about, indent=1))
        folders.append(folder)
    warnings.warn(
        f"physics diverged in world(s) {worlds} of {env.task.name}: frozen and counted as terminated; "
        f"replay with `fermo play {folders[0]}`",
        DivergedWorldWarning,
        stacklevel=3,
    )
    return folders


def load_dump(folder: Path) -> tuple[mujoco.MjModel, mujoco.MjData, dict]:
    """The model, the state before the failing step with its controls applied, and what `report` noted."""
    with contextlib.suppress(BackendError):  # needed by some models only
        post_constraint.register()
    try:
        about = json.loads((folder / "dump.json").read_text())
        model = mujoco.MjModel.from_binary_path(str(folder / "model.mjb"))
        rows = load_file(folder / "state.safetensors")
    except (OSError, ValueError) as error:
        raise FermoError(
            f"{folder} is not a complete dump ({error}); it holds dump.json, model.mjb, state.safetensors"
        ) from error
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, rows["state"].numpy(), mujoco.mjtState.mjSTATE_INTEGRATION)
    data.ctrl[:] = rows["ctrl"].numpy()
    mujoco.mj_forward(model, data)
    return model, data, about
