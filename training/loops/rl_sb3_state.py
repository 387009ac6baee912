"""All that a Stable-Baselines3 learner's next round depends on, as tensors and JSON, never a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from fermo.envs.adapters.sb3 import Sb3VecEnv
from fermo.errors import FermoError
from fermo.training.loops.state import TrainingState, load_state, save_state

_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def save_learner(folder: Path, model: BaseAlgorithm, env: Sb3VecEnv, normalize: VecNormalize | None,
                 identity: dict[str, Any]) -> None:  # fmt: skip
    """Replace the state in `folder`, between two rounds."""
    tensors = {f"policy.{name}": tensor for name, tensor in model.policy.state_dict().items()}
    for name, optimizer in _optimizers(model).items():
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{name}.{index}.{key}": value for key, value in values.items()}
    temperature = getattr(model, "log_ent_coef", None)
    if temperature is not None:
        tensors["temperature"] = temperature
    tensors |= {f"env.{name}": tensor for name, tensor in env.env.state_dict().items()}
    tensors |= {f"array.{name}": torch.from_numpy(np.array(array)) for name, array in _arrays(model, env, normalize)}
    tensors["random"] = torch.get_rng_state()
    header = {"identity": identity, "steps": model.num_timesteps, "updates": model._n_updates,  # type: ignore[attr-defined]
              "episodes": model._episode_num, "numpy": _numpy_random(),
              "action_space": _plain(model.action_space.np_random.bit_generator.state)}  # fmt: skip
    if isinstance(model, OffPolicyAlgorithm) and model.replay_buffer is not None:
        header |= {"position": model.replay_buffer.pos, "full": model.replay_buffer.full}
    save_state(folder, {name: tensor.detach().cpu() for name, tensor in tensors.items()}, header)


def restore_learner(folder: Path, model: BaseAlgorithm, env: Sb3VecEnv, normalize: VecNormalize | None,
                    identity: dict[str, Any]) -> None:  # fmt: skip
    """Put back what `save_learner` wrote. Raises `FermoError` if there is nothing or it is another training's."""
    state = load_state(folder)
    if state.header.get("identity") != identity:
        raise FermoError(f"{folder} holds a training with {state.header.get('identity')}, not {identity}: start anew")
    model.policy.load_state_dict(state.group("policy"))
    for name, optimizer in _optimizers(model).items():
        _load_optimizer(optimizer, state.group(f"optimizer.{name}"))
    if "temperature" in state.tensors:
        with torch.no_grad():
            model.log_ent_coef.copy_(state.tensors["temperature"])  # type: ignore[attr-defined]
    env.env.load_state_dict(state.group("env"))
    _load_arrays(model, env, normalize, state)
    header = state.header
    model.num_timesteps, model._episode_num = header["steps"], header["episodes"]
    model._n_updates = header["updates"]  # type: ignore[attr-defined]
    model.action_space.np_random.bit_generator.state = header["action_space"]
    np.random.set_state(_numpy_state(header["numpy"]))  # noqa: NPY002  theirs draws from the global one
    torch.set_rng_state(state.tensors["random"])


def _optimizers(model: Any) -> dict[str, torch.optim.Optimizer]:
    """Every optimiser of the learner by name."""
    if not isinstance(model, OffPolicyAlgorithm):
        return {"policy": model.policy.optimizer}
    policy: Any = model.policy
    found = {"actor": policy.actor.optimizer, "critic": policy.critic.optimizer}
    temperature = getattr(model, "ent_coef_optimizer", None)
    return found if temperature is None else found | {"temperature": temperature}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    values: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".")
        values.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})


def _arrays(model: Any, env: Sb3VecEnv, normalize: VecNormalize | None) -> list[tuple[str, np.ndarray]]:
    arrays = [("last_obs", model._last_obs), ("last_starts", model._last_episode_starts),
              ("episode_return", env.episode_return), ("episode_length", env.episode_length)]  # fmt: skip
    if normalize is not None:
        for name, statistics in _statistics(normalize).items():
            arrays += [(f"{name}.{key}", getattr(statistics, key)) for key in ("mean", "var", "count")]
        arrays += [("returns", normalize.returns), ("original_obs", normalize.old_obs)]
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        arrays += [(f"buffer.{name}", getattr(buffer, name)[: buffer.size()]) for name in _BUFFER]
    return arrays


def _load_arrays(model: Any, env: Sb3VecEnv, normalize: VecNormalize | None, state: TrainingState) -> None:
    arrays = {name: tensor.numpy() for name, tensor in state.group("array").items()}
    model._last_obs, model._last_episode_starts = arrays["last_obs"], arrays["last_starts"]
    env.episode_return[:], env.episode_length[:] = arrays["episode_return"], arrays["episode_length"]
    if normalize is not None:
        for name, statistics in _statistics(normalize).items():
            statistics.mean, statistics.var = arrays[f"{name}.mean"], arrays[f"{name}.var"]
            statistics.count = float(arrays[f"{name}.count"])
        normalize.returns, normalize.old_obs = arrays["returns"], arrays["original_obs"]
        model._last_original_obs = arrays["original_obs"]
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        for name in _BUFFER:
            rows = arrays[f"buffer.{name}"]
            getattr(buffer, name)[: len(rows)] = rows
        buffer.pos, buffer.full = state.header["position"], state.header["full"]


def _statistics(normalize: Any) -> dict[str, Any]:
    return {"obs_statistics": normalize.obs_rms, "return_statistics": normalize.ret_rms}


def _numpy_random() -> list[Any]:
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    return [kind, np.asarray(keys).tolist(), position, has_gauss, gauss]


def _numpy_state(saved: list[Any]) -> tuple[Any, ...]:
    kind, keys, position, has_gauss, gauss = saved
    return kind, np.array(keys, dtype=np.uint32), position, has_gauss, gauss


def _plain(state: Any) -> Any:
    """A bit generator's state with plain integers."""
    return {key: _plain(value) if isinstance(value, dict) else value for key, value in state.items()}
