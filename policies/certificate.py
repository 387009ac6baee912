"""Lipschitz certificates of feed-forward policies, in float64 and NumPy alone.

A certificate speaks of the deployed weights, observation normaliser and action scale included, over every observation
(no domain). `verify_certificate` recomputes it from the checkpoint's files without torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fermo.errors import FermoError
from fermo.signal import PlantSpec

INFLATION = 1e-6  # covers float64 rounding in the bound itself, with orders of magnitude to spare
SLOPE_RESTRICTED = ("relu", "tanh")  # elementwise, slope in [0, 1]; groupsort mixes channels and is not

CONDITIONS = (
    "holds for every pair of observations (global), for the stored float32 weights evaluated in exact arithmetic; "
    "float32 rounding of the evaluation adds about 1e-6 of the action's magnitude",
    "the clamp to the commands' bounds is included: it is 1-Lipschitz",
    "bounds the policy as a map from one observation to one action; it says nothing of the closed loop by itself",
)


@dataclass(frozen=True, kw_only=True)
class FeedforwardMap:
    """``action = P obs + S_a W_k act(... act(W_1 S_o^-1 obs))`` up to constants, as float64 matrices.

    Attributes:
        weights: ``W_1 .. W_k``, shapes ``(out, in)``.
        activation: Name of the 1-Lipschitz activation between them.
        observation_std: Diagonal of S_o, in SI units, shape ``(observation_size,)``.
        action_std: Diagonal of S_a, in SI units, shape ``(command_size,)``.
        base: Selection P of the action base, shape ``(command_size, observation_size)``, zero when there is none.
        spec: Names and units.
    """

    weights: tuple[np.ndarray, ...]
    activation: str
    observation_std: np.ndarray
    action_std: np.ndarray
    base: np.ndarray
    spec: PlantSpec

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray], spec: PlantSpec, activation: str,
                     action_base: str | None) -> FeedforwardMap:  # fmt: skip
        """Read the map from the folded state of a policy."""
        names = [name for name in tensors if name.startswith("network.") and name.endswith(".weight")]
        names.sort(key=lambda name: int(name.split(".")[1]))
        base = np.zeros((spec.command_size, spec.observation_size))
        if action_base is not None:
            base[:, spec.observation_slices()[action_base]] = np.eye(spec.command_size)
        return cls(
            weights=tuple(tensors[name].astype(np.float64) for name in names),
            activation=activation,
            observation_std=tensors["observation_normalizer.std"].astype(np.float64),
            action_std=tensors["action_normalizer.std"].astype(np.float64),
            base=base,
            spec=spec,
        )

    def bound(self, output_scale: np.ndarray, input_scale: np.ndarray) -> tuple[float, str]:
        """Bound of ``diag(output_scale) (network + base in normalised units) diag(input_scale)`` and its method.

        Zeros in a scale leave channels out. The base path adds its own norm:
        ``||P' d + N(d)|| <= (||P'|| + L_N) ||d||``.
        """
        weights = list(self.weights)
        weights[0] = weights[0] * input_scale
        weights[-1] = output_scale[:, None] * weights[-1]
        value, method = network_bound(weights, self.activation)
        base = (output_scale / self.action_std)[:, None] * self.base * (self.observation_std * input_scale)
        return (value + spectral_norm(base)) * (1 + INFLATION), method


def spectral_norm(matrix: np.ndarray) -> float:
    """Largest singular value."""
    return float(np.linalg.norm(matrix, 2))


def product_bound(weights: list[np.ndarray]) -> float:
    """``prod ||W_i||``, valid for every 1-Lipschitz activation."""
    return math.prod(spectral_norm(weight) for weight in weights)


def liplt_bound(weights: list[np.ndarray]) -> float:
    """LipLT (Fazlyab et al. 2023), valid for elementwise slopes in [0, 1].

    With ``act(y) = y/2 + psi(y)``, psi 1/2-Lipschitz, the map up to the preactivation of layer k has the bound::

        m_k = ||W_k ... W_1|| / 2^(k-1) + sum_{j<k} ||W_k ... W_{j+1}|| / 2^(k-1-j) * m_j / 2
    """
    bounds: list[float] = []
    tails: list[np.ndarray] = []  # tails[j] = W_k ... W_{j+1} / 2^(k-1-j)
    for weight in weights:
        tails = [weight @ tail / 2 for tail in tails] + [weight]
        through_psi = sum(spectral_norm(tail) * bound / 2 for tail, bound in zip(tails[1:], bounds, strict=True))
        bounds.append(spectral_norm(tails[0]) + through_psi)
    return bounds[-1]


def eclipse_fast_bound(weights: list[np.ndarray]) -> float:
    """ECLipsE-Fast (Xu and Sivaranjani 2024), valid for elementwise slopes in [0, 1].

    ``X_0 = I; M_i = W_i X_{i-1}^-1 W_i^T; l_i = 2 / lambda_max(M_i); X_i = l_i I - l_i^2 M_i / 4``, and the bound is
    ``sqrt ||W_k X_{k-1}^-1 W_k^T||``.
    """
    inverse = np.eye(weights[0].shape[1])
    for weight in weights[:-1]:
        matrix = weight @ inverse @ weight.T
        largest = float(np.linalg.eigvalsh(matrix)[-1])
        if largest <= 0.0:
            return 0.0
        step = 2.0 / largest
        inverse = np.linalg.inv(step * np.eye(len(matrix)) - step**2 * matrix / 4)
    return math.sqrt(spectral_norm(weights[-1] @ inverse @ weights[-1].T))


def network_bound(weights: list[np.ndarray], activation: str) -> tuple[float, str]:
    """The smallest bound valid for the activation, and the method that gave it."""
    bounds = {"product of spectral norms": product_bound(weights)}
    if activation in SLOPE_RESTRICTED:
        bounds |= {"LipLT": liplt_bound(weights), "ECLipsE-Fast": eclipse_fast_bound(weights)}
    method = min(bounds, key=lambda name: bounds[name])
    return bounds[method], method


def certify(plant_map: FeedforwardMap, *, gamma_requested: float | None) -> dict[str, Any]:
    """The certificate of a policy's map, as plain JSON.

    ``lipschitz`` bounds the map from normalised observation to action in units of ``action_std``, l2 to l2. Each row of
    ``sensitivity`` bounds, in SI units and l2, how far one command moves per unit of change of one observation signal.
    """
    everything_in, everything_out = np.ones_like(plant_map.observation_std), np.ones_like(plant_map.action_std)
    lipschitz, method = plant_map.bound(everything_out, everything_in)
    return {
        "claim": "||action(a) - action(b)|| <= lipschitz * ||a - b|| in normalised units",
        "lipschitz": lipschitz,
        "gamma_requested": gamma_requested,
        "by_construction": gamma_requested is not None,
        "method": method,
        "norm": "l2 to l2",
        "arithmetic": "float64",
        "inflation": INFLATION,
        "domain": "global",
        "conditions": list(CONDITIONS),
        "observation_std": plant_map.observation_std.tolist(),
        "action_std": plant_map.action_std.tolist(),
        "sensitivity": _sensitivity(plant_map),
    }


def _sensitivity(plant_map: FeedforwardMap) -> list[dict[str, Any]]:
    """Per command and observation signal, the bound in SI units."""
    spec, rows = plant_map.spec, []
    for command in spec.commands:
        output = np.zeros_like(plant_map.action_std)
        chosen = spec.command_slices()[command.name]
        output[chosen] = plant_map.action_std[chosen]
        for observation in spec.observations:
            given = np.zeros_like(plant_map.observation_std)
            columns = spec.observation_slices()[observation.name]
            given[columns] = 1.0 / plant_map.observation_std[columns]
            gain, method = plant_map.bound(output, given)
            rows.append({
                "command": command.name, "observation": observation.name, "gain": gain,
                "unit": f"({command.unit})/({observation.unit})", "method": method,
            })  # fmt: skip
    return rows


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def verify_certificate(folder: str | Path) -> dict[str, Any]:
    """Recompute a checkpoint's certificate from its weights with NumPy and return it.

    Raises:
        FermoError: A file is missing or unreadable, the weights are not those certified, or a number differs.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    stated, config, signals = (_read_json(folder / f"{name}.json") for name in ("certificate", "config", "signals"))
    weights = folder / "model.safetensors"
    try:
        if sha256_of(weights) != stated.get("weights_sha256"):
            raise FermoError(f"{weights} is not the file its certificate.json speaks of: export the checkpoint again")
        spec = PlantSpec.from_json(signals["plant"])
        settings = config["config"]
        activation, action_base = settings["activation"], settings["action_base"]
        plant_map = FeedforwardMap.from_tensors(load_file(weights), spec, activation, action_base)
        fresh = certify(plant_map, gamma_requested=settings.get("gamma"))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FermoError(f"{folder} holds no checkpoint that can be certified again: {error}") from error
    for name, value in fresh.items():
        if not _agrees(value, stated.get(name)):
            path = folder / "certificate.json"
            raise FermoError(f"{path} states a {name!r} that its weights do not have: do not trust it, export again")
    return stated


def _agrees(fresh: Any, stated: Any) -> bool:
    """Equal, with floats to 1e-9 relative: linear algebra libraries differ in the last digits."""
    if isinstance(fresh, float) and isinstance(stated, int | float):
        return math.isclose(fresh, stated, rel_tol=1e-9)
    if isinstance(fresh, list) and isinstance(stated, list):
        return len(fresh) == len(stated) and all(map(_agrees, fresh, stated))
    if isinstance(fresh, dict) and isinstance(stated, dict):
        return fresh.keys() == stated.keys() and all(_agrees(fresh[key], stated[key]) for key in fresh)
    return fresh == stated


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FermoError(f"{path} cannot be read as JSON: {error}") from error
