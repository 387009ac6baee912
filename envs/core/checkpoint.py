"""A batch of worlds on disk: everything that its next step depends on, as plain tensors.

That is the engine's state, the arrays that a task reads one substep late, parameters set per world, the counters behind
every random number, and what sensors and perturbations remember.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fermo.envs.core.backend import Backend, BackendError
from fermo.envs.core.memory import Memory

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv


def save_batch(env: VectorEnv) -> dict[str, Tensor]:
    """See `VectorEnv.state_dict`."""
    if not env._bound:
        raise BackendError("call reset() first: before it there is no state to save")
    backend = env.backend
    saved = {"seed": torch.tensor(env.seed), "worlds": env.random.worlds.clone()}
    saved |= {"engine.state": backend.get_state(), "engine.failed": backend.failed.clone()}
    saved |= {f"late.{name}": view.clone() for name, view in backend.late_arrays().items()}
    saved |= {f"parameter.{name}": backend.get_param(name) for name in backend.parameters_set()}
    return saved | {f"memory.{path}": tensor for path, tensor in Memory(env.roots()).save().items()}


def load_batch(env: VectorEnv, saved: dict[str, Tensor]) -> None:
    """See `VectorEnv.load_state_dict`."""
    saved = {name: tensor.to(env.device) for name, tensor in saved.items()}
    _check(env, saved)
    env.reset(seed=int(saved["seed"]))
    env.random.worlds.copy_(saved["worlds"])
    memory = _grown_memory(env, saved)
    backend = env.backend
    parameters = _group(saved, "parameter.")
    for name in backend.parameters_set():
        parameters.setdefault(name, _nominal(backend, name))
    if parameters:
        backend.set_params(parameters)
    backend.set_state(saved["engine.state"])
    backend.failed.copy_(saved["engine.failed"])
    env._failing = env._concerns(backend.failed)
    for name, rows in _group(saved, "late.").items():
        backend.read(name).copy_(rows)
    known = _group(saved, "memory.")
    memory.load({path: known.get(path, slot.tensor) for path, slot in memory.slots.items()})


def _check(env: VectorEnv, saved: dict[str, Tensor]) -> None:
    """The state must be that of a batch like this one."""
    found, here = saved.get("engine.state"), env.backend.get_state()
    if found is None or found.shape != here.shape:
        what = "no engine state" if found is None else f"{found.shape[0]} worlds of {found.shape[1]} numbers"
        raise BackendError(f"the saved batch has {what}, this one {here.shape[0]} of {here.shape[1]}")
    owners = {path.split(".")[0] + "." + path.split(".")[1] for path in _group(saved, "memory.") if path.count(".") > 1}
    wanted = {f"perturbations.{index} {each.name}" for index, each in enumerate(env.perturbations)}
    odd = {owner for owner in owners if owner.startswith("perturbations.")} - wanted
    if odd:
        raise BackendError(f"the saved batch has {sorted(odd)[0]}, which this one lacks: make it with the same ones")


def _grown_memory(env: VectorEnv, saved: dict[str, Tensor]) -> Memory:
    """The memory of `env` with every slot that `saved` fills; some appear with the first step."""
    memory, wanted = Memory(env.roots()), _group(saved, "memory.").keys()
    if wanted - memory.slots.keys():
        env.eager_step(torch.zeros(env.num_envs, env.task.spec.command_size, device=env.device))
        memory = Memory(env.roots())
    missing = sorted(wanted - memory.slots.keys())
    if missing:
        raise BackendError(f"the saved batch remembers {missing[0]}, and nothing here does: make it with the same task")
    return memory


def _group(saved: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in saved.items() if name.startswith(prefix)}


def _nominal(backend: Backend, name: str) -> Tensor:
    """The compiled model's own value of a field, a row a world."""
    owner, _, option = name.partition(".")
    value: Any = getattr(backend.model.opt, option) if option else getattr(backend.model, owner)
    rows = torch.as_tensor(value, device=backend.device)
    return rows.expand(backend.num_worlds, *rows.shape).clone()
