"""What happens when physics diverges: the world is frozen, its last good state written down, the others run on."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import mujoco
from safetensors.torch import load_file, save_file
from torch import Tensor

from fermo.envs.core.backend import BackendError
from fermo.envs.core.engine_plugin import plugin_names, restore_plugins
from fermo.errors import FermoError

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv


class DivergedWorldWarning(UserWarning):
    """A world's state stopped being finite; the message says where its replay lies."""


def report(env: VectorEnv, worlds: list[int], state: Tensor, ctrl: Tensor, episode: Tensor,
           step: Tensor) -> list[Path]:  # fmt: skip
    """Write a replayable folder for each world and warn once, naming them.

    A dump holds ``model.mjb`` (with that world's parameters), ``state.safetensors`` (``state (nstate,)`` before the
    step that failed and ``ctrl (nu,)`` that was applied) and ``dump.json``.

    Args:
        env: Where it happened.
        worlds: Rows of the following.
        state: Last good states ``(N, nstate)``.
        ctrl: Controls applied ``(N, nu)``.
        episode: Episode numbers ``(N,)``.
        step: Steps of the episode ``(N,)``.
    """
    root = env.dump_folder or Path(tempfile.gettempdir()) / "fermo-dumps"
    root.mkdir(parents=True, exist_ok=True)
    folders = []
    for world in worlds:
        when = {"world": world, "episode": int(episode[world]), "step": int(step[world])}
        folder = Path(tempfile.mkdtemp(prefix="-".join(f"{key}{value}" for key, value in when.items()) + "-", dir=root))
        model = env.backend.world_model(world)
        mujoco.mj_saveModel(model, str(folder / "model.mjb"), None)
        rows = {"state": state[world], "ctrl": ctrl[world].detach()}
        save_file({key: row.cpu().double().contiguous() for key, row in rows.items()}, folder / "state.safetensors")
        about = {"task": env.task.name, "seed": env.seed, **when, "substeps": env.task.substeps,
                 "plugins": plugin_names(model)}  # fmt: skip
        (folder / "dump.json").write_text(json.dumps(about, indent=1))
        folders.append(folder)
    warnings.warn(
        f"physics diverged in world(s) {worlds} of {env.task.name}: frozen and counted as terminated; "
        f"replay with `fermo play {folders[0]}`",
        DivergedWorldWarning,
        stacklevel=3,
    )
    return folders


def bad_action(worlds: list[int]) -> BackendError:
    """The error for actions that are not finite."""
    return BackendError(f"the action of world(s) {worlds} is not finite: look for NaN in the policy's input")


def load_dump(folder: Path) -> tuple[mujoco.MjModel, mujoco.MjData, dict]:
    """The model, the state before the failing step with its controls applied, and what `report` noted."""
    try:
        about = json.loads((folder / "dump.json").read_text())
        model = mujoco.MjModel.from_binary_path(str(folder / "model.mjb"))
        restore_plugins(model, about.get("plugins", []))
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
