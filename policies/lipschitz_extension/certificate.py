"""The certificate of an extension, in float64 and NumPy alone: proved on paper, checked on the data pair by pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fermo.errors import FermoError
from fermo.policies.certificates.bounds import spectral_norm
from fermo.policies.certificates.check_certificate import INFLATION, TERMS, agrees, read_safetensors
from fermo.policies.checkpoint_header import read_header, read_spec
from fermo.policies.lipschitz_extension.config import LipschitzExtensionConfig
from fermo.policies.lipschitz_extension.pairs import Array, Pairs
from fermo.signal import PlantSpec

CONDITIONS = (
    "holds for every pair of observations (global) by construction of the extension, in exact arithmetic; it is "
    "evaluated in float64 and given in float32, whose rounding adds about 1e-6 of the action's magnitude",
    "the clamp to the commands' bounds is included: it is 1-Lipschitz",
    "bounds the policy as a map from one observation to one action; it says nothing of the closed loop by itself",
)


def certify_extension(tensors: dict[str, Array], spec: PlantSpec, config: LipschitzExtensionConfig) -> dict[str, Any]:
    """The certificate as plain JSON, in the form of `fermo.policies.certificates.certificate.certify`.

    ``lipschitz`` is alpha and what the action base adds. ``steepest_demonstrations`` is the largest slope between two
    stored demonstrations, over all pairs: no more than alpha where the policy passes through what it stores.
    """
    std_in, std_out = (tensors[f"{name}_normalizer.std"].astype(np.float64) for name in ("observation", "action"))
    base = _base(spec, config.action_base)
    normalised_base = base * std_in / std_out[:, None]
    points, values = (tensors[f"network.{name}"].astype(np.float64) for name in ("points", "values"))
    steepest = Pairs(points).steepest(values) if len(points) > 1 else 0.0
    method = "McShane-Whitney extension" if spec.command_size == 1 else "Kirszbraun extension"
    return {
        **TERMS,
        "conditions": list(CONDITIONS),
        "lipschitz": (config.alpha + spectral_norm(normalised_base)) * (1 + INFLATION),
        "gamma_requested": config.alpha,
        "by_construction": True,
        "method": method,
        "steepest_demonstrations": steepest,
        "observation_std": std_in.tolist(),
        "action_std": std_out.tolist(),
        "sensitivity": [
            {"command": command.name, "observation": observation.name,
             "gain": _gain(config.alpha, std_out[rows], std_in[columns], base[rows, columns]),
             "unit": f"({command.unit})/({observation.unit})", "method": method}
            for command in spec.commands for rows in [spec.command_slices()[command.name]]
            for observation in spec.observations for columns in [spec.observation_slices()[observation.name]]
        ],
    }  # fmt: skip


def verify_certificate(folder: str | Path) -> dict[str, Any]:
    """Compute a checkpoint's certificate anew from its data and return it.

    Raises:
        FermoError: A file is missing, damaged or changed, or the certificate states what the data do not have.
    """
    folder = Path(folder)
    header, spec, path = read_header(folder), read_spec(folder), folder / "certificate.json"
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        config = LipschitzExtensionConfig(**header["config"])
        fresh = certify_extension(read_safetensors(folder / "model.safetensors"), spec, config)
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise FermoError(f"{folder} holds no checkpoint that can be certified again: {error}") from error
    for name, value in fresh.items():
        if not agrees(value, stated.get(name)):
            raise FermoError(f"{path} states a {name!r} that its data do not have: do not trust it, export again")
    return stated


def _base(spec: PlantSpec, name: str | None) -> Array:
    """Selection of the action base, shape ``(command_size, observation_size)``, zero when there is none."""
    base = np.zeros((spec.command_size, spec.observation_size))
    if name is not None:
        base[:, spec.observation_slices()[name]] = np.eye(spec.command_size)
    return base


def _gain(alpha: float, command_std: Array, observation_std: Array, base: Array) -> float:
    """Bound of one command's change per unit of one signal's, in SI units."""
    return float((alpha * command_std.max() / observation_std.min() + spectral_norm(base)) * (1 + INFLATION))
