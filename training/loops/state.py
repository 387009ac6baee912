"""A training loop's resumable state: one safetensors file, tensors as tensors and the rest as JSON in its header."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from fermo.errors import FermoError

FILE_NAME = "training_state.safetensors"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Tensors by dotted name, and plain JSON: what `save_state` writes and `load_state` reads."""

    tensors: dict[str, Tensor]
    header: dict[str, Any]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with ``prefix.``, without it."""
        return {name.removeprefix(f"{prefix}."): t for name, t in self.tensors.items() if name.startswith(f"{prefix}.")}


def save_state(folder: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Replace the state in `folder`; a crash at any moment leaves the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{FILE_NAME}.{os.getpid()}.tmp"
    try:
        tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        save_file(tensors, temporary, {"state": json.dumps(header)})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, folder / FILE_NAME)
    finally:
        temporary.unlink(missing_ok=True)


def load_state(folder: Path) -> TrainingState:
    """Read the state in `folder`.

    Raises:
        FermoError: There is none, or it is damaged.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise FermoError(f"{path} does not exist: nothing to resume there, start the training without resume")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["state"])
            return TrainingState(tensors={name: file.get_tensor(name) for name in file.keys()}, header=header)  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise FermoError(f"{path} is damaged ({error}): remove it and start the training again") from error


def optimizer_tensors(optimizer: optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """The optimiser's per-parameter state, named ``quantity.parameter``."""
    named = module.named_parameters()
    return {f"{key}.{name}": value for name, p in named for key, value in optimizer.state.get(p, {}).items()}


def restore_optimizer(optimizer: optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    parameters = dict(module.named_parameters())
    for name, tensor in tensors.items():
        key, _, parameter = name.partition(".")
        target = parameters[parameter]
        place = tensor.to(target.device) if key != "step" or optimizer.defaults.get("fused") else tensor
        optimizer.state[target][key] = place.clone()
