"""Weights of the channels, from what the user says in normalised and in SI units."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fermo.errors import FermoError, unknown_name
from fermo.policies.lipschitz_bc.config import LipschitzBcConfig
from fermo.signal import PlantSpec


def channel_gains(config: LipschitzBcConfig, spec: PlantSpec, observation_std: Tensor,
                  action_std: Tensor) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Weight of each observation channel, ``(observation_size,)``, and of each command channel, ``(command_size,)``.

    A network with ``||diag(w_out)^-1 df|| <= gamma ||diag(w_in) dz||`` moves a command c, in SI units, by at most
    ``gamma max_i(s_i w_out_i) max_j(w_in_j / s_j)`` per unit of an observation o, over the channels i of c and j of o
    with standard deviations s. A stated bound B fixes every ``w_in_j = B s_j / (gamma max_i s_i w_out_i)``, which
    makes that product B; of several commands' bounds along one signal the smallest counts.

    Args:
        config: What was asked for.
        spec: Names and sizes.
        observation_std: Of the observation normaliser, SI units.
        action_std: Of the action normaliser, SI units.

    Raises:
        FermoError: A name is not the plant's, or a bound leaves nothing beside the direct path of `action_base`.
    """
    observed, commanded = spec.observation_slices(), spec.command_slices()
    inputs = _weights("observation signal", config.input_weights, observed, spec.observation_size)
    outputs = _weights("command", config.output_weights, commanded, spec.command_size)
    stated: dict[str, Tensor] = {}
    for name, bound in config.slope_bounds.items():
        command, observation = name.split("/")
        _require_known("command", command, commanded)
        _require_known("observation signal", observation, observed)
        if observation == config.action_base:
            bound -= 1.0  # the direct path
            if bound <= 0:
                raise FermoError(f"slope_bounds[{name}] must exceed 1: action_base alone has that slope")
        assert config.gamma is not None  # the config refuses slope bounds without
        largest = (action_std * outputs)[commanded[command]].max()
        weight = bound * observation_std[observed[observation]] / (config.gamma * largest)
        stated[observation] = torch.minimum(weight, stated.get(observation, weight))
    for observation, weight in stated.items():
        inputs[observed[observation]] = weight
    return inputs, outputs


def _weights(kind: str, weights: Mapping[str, float], slices: Mapping[str, slice], size: int) -> Tensor:
    channels = torch.ones(size)
    for name, weight in weights.items():
        _require_known(kind, name, slices)
        channels[slices[name]] = weight
    return channels


def _require_known(kind: str, name: str, slices: Mapping[str, slice]) -> None:
    if name not in slices:
        raise unknown_name(kind, name, slices)
