"""Checks the Lipschitz certificate of a checkpoint: ``python check_certificate.py FOLDER``.

This one file needs NumPy and the standard library; neither fermo, torch nor a solver has a part in the verdict. It
reads the weights, rebuilds the deployed map in float64 and proves every stated bound anew from the multipliers beside
it: one Cholesky factorisation a bound. ``fermo certify`` calls it too.

**The proof.** Take two inputs of a network and write d for the difference of any quantity between them. With z the
normalised input and xi = (dz, one free number a neuron), the activation of neuron j guarantees a product of two linear
forms in xi to be nonnegative, ``(a_j xi) (b_j xi) >= 0``:

- relu, tanh: slopes in [0, 1], so ``dx (dv - dx) >= 0`` for v before and x after; free number dx, a = dx, b = dv - dx.
- groupsort, on a pair (v1, v2): with s = (v1 + v2) / 2 and q = (v1 - v2) / 2 it gives (s + |q|, s - |q|). The mean s
  passes unchanged and t = |q| is 1-Lipschitz in q, so ``dq^2 - dt^2 >= 0``; free number dt, a = dq - dt, b = dq + dt.

If for some multipliers l_j >= 0 the quadratic form

    r ||dz||^2 - ||dy||^2 - 2 sum_j l_j (a_j xi) (b_j xi)

is nonnegative for every xi (the LMI of LipSDP-neuron, Fazlyab et al. 2019), then ``||dy||^2 <= r ||dz||^2`` for every
pair of inputs. How the multipliers were found does not matter. The action base is a linear part of dy like any other.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray

INFLATION = 1e-6  # added to every bound: covers float64 rounding, with orders of magnitude to spare
AGREEMENT = 1e-7  # linear algebra libraries differ by less, a tampered number by more
ROUNDOFF = 2.0**-53  # of float64
ELEMENTWISE = {"relu": lambda value: np.maximum(value, 0.0), "tanh": np.tanh}
ACTIVATIONS = (*ELEMENTWISE, "groupsort")
PRODUCT = "product of spectral norms"
METHODS = ("LipSDP-neuron", "ECLipsE-Fast", "LipLT", PRODUCT)

TERMS = {
    "claim": "||action(a) - action(b)|| <= lipschitz * ||a - b|| in normalised units",
    "norm": "l2 to l2",
    "scaling": "each observation channel divided by its observation_std, each action channel by its action_std",
    "domain": "global",
    "arithmetic": "float64",
    "inflation": INFLATION,
    "conditions": [
        "global: holds for every pair of observations, seen in training or not",
        "holds for the stored float32 weights and normalisation, evaluated in exact arithmetic; evaluating in float32 "
        "adds rounding of about 1e-6 of the action's magnitude",
        "clamping the action to the commands' bounds, squashing it and clipping the normalised observation are "
        "included: each is 1-Lipschitz",
        "an observation off by at most d_i in each channel i moves the action by at most "
        "lipschitz * sqrt(sum_i (d_i / observation_std_i)^2), in l2 and in units of action_std",
        "bounds the policy as a map from one observation to one action; says nothing of success, of the dynamics or "
        "of the closed loop",
    ],
}
"""What every certificate says in the same words."""


class CertificateError(Exception):
    """Why a certificate does not hold, in one line."""


class Signal(NamedTuple):
    """What the proof needs of a signal."""

    name: str
    unit: str
    size: int


class Plant(NamedTuple):
    """What the proof needs of a plant; a `fermo.signal.PlantSpec` serves as well."""

    observations: tuple[Signal, ...]
    commands: tuple[Signal, ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plant:
        """From the ``plant`` of ``signals.json``."""
        kinds = (data["observations"], data["commands"])
        return cls(*(tuple(Signal(s["name"], s["unit"], math.prod(s["shape"])) for s in kind) for kind in kinds))


@dataclass(frozen=True, kw_only=True)
class FeedforwardMap:
    """``y = W_k act(... act(W_1 z + b_1)) + b_k + B z``, normalised observation to action in units of S_a.

    Attributes:
        weights: ``W_1 .. W_k``, shapes ``(out, in)``.
        biases: ``b_1 .. b_k``.
        activation: Name of the activation between them.
        squash: Whether the network's output passes through tanh.
        clip: Whether the normalised observation is clipped; both are 1-Lipschitz and provable where B is zero.
        observation_std: Diagonal of S_o, in SI units, shape ``(observation_size,)``.
        action_std: Diagonal of S_a, in SI units, shape ``(command_size,)``.
        base: Selection P of the action base, shape ``(command_size, observation_size)``, zero when there is none;
            ``B = S_a^-1 P S_o``.
        spec: Names, units and sizes of the signals.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    activation: str
    squash: bool = False
    clip: bool = False
    observation_std: Array
    action_std: Array
    base: Array
    spec: Any

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], spec: Any, activation: str, action_base: str | None,
                     squash: bool = False, clip: bool = False) -> FeedforwardMap:  # fmt: skip
        """Read the map from the folded state of a policy; KeyError when a tensor or signal is missing."""
        exact = {name: np.asarray(tensor, dtype=np.float64) for name, tensor in tensors.items()}
        names = [name for name in exact if name.startswith("network.") and name.endswith(".weight")]
        names.sort(key=lambda name: int(name.split(".")[1]))
        observation_std, action_std = exact["observation_normalizer.std"], exact["action_normalizer.std"]
        base = np.zeros((action_std.size, observation_std.size))
        if action_base is not None:
            base[:, slices(spec.observations)[action_base]] = np.eye(action_std.size)
        return cls(
            weights=tuple(exact[name] for name in names),
            biases=tuple(exact[name.removesuffix("weight") + "bias"] for name in names),
            activation=activation,
            squash=squash,
            clip=clip,
            observation_std=observation_std,
            action_std=action_std,
            base=base,
            spec=spec,
        )

    def problem(self) -> str | None:
        """Why nothing can be proved of this map, or None."""
        if self.activation not in ACTIVATIONS:
            return f"activation {self.activation!r} has no proof here: choose from {', '.join(ACTIVATIONS)}"
        widths = [sum(signal.size for signal in self.spec.observations), *(len(weight) for weight in self.weights)]
        shapes = [(weight.shape, bias.shape) for weight, bias in zip(self.weights, self.biases, strict=True)]
        chained = [((after, before), (after,)) for before, after in pairwise(widths)]
        outputs = sum(signal.size for signal in self.spec.commands)
        ends = (self.observation_std.shape, self.action_std.shape, self.base.shape, widths[-1])
        if len(shapes) < 2 or shapes != chained or ends != ((widths[0],), (outputs,), (outputs, widths[0]), outputs):
            found = [shape for shape, _ in shapes]
            return f"shapes {found} do not lead from {widths[0]} over hidden layers to {outputs}"
        if self.activation == "groupsort" and any(width % 2 for width in widths[1:-1]):
            return f"groupsort sorts pairs: hidden widths must be even, got {widths[1:-1]}"
        stored = (*self.weights, *self.biases, self.observation_std, self.action_std)
        if not all(np.isfinite(array).all() for array in stored):
            return "a weight or a normalisation is NaN or infinite"
        if min(self.observation_std.min(), self.action_std.min()) <= 0:
            return "a standard deviation is not positive"
        if self.base.any() and (self.squash or self.clip):
            return "its action base passes around a squash or a clip"
        return None

    def __call__(self, normalized: Array) -> Array:
        """Shape ``(..., observation_size)`` to ``(..., command_size)``, without the constant offset and the clamp."""
        value = np.asarray(normalized, dtype=np.float64)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            value = self._activate(value @ weight.T + bias)
        output = value @ self.weights[-1].T + self.biases[-1]
        return (np.tanh(output) if self.squash else output) + normalized @ self._normalized_base().T

    def slope(self, first: Array, second: Array) -> float:
        """``||y(a) - y(b)|| / ||a - b||`` of two normalised observations."""
        first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        return float(np.linalg.norm(self(first) - self(second)) / np.linalg.norm(first - second))

    def pairs(self) -> list[tuple[Any, Any]]:
        """Every command with every observation signal, in the order of a certificate's rows."""
        return [(command, observation) for command in self.spec.commands for observation in self.spec.observations]

    def normalized(self) -> tuple[list[Array], Array]:
        """Weights and base of the whole map, normalised at both ends."""
        return list(self.weights), self._normalized_base()

    def rescaled(self, output_scale: Array, input_scale: Array) -> tuple[list[Array], Array]:
        """Weights and base of ``diag(output_scale) y(diag(input_scale) .)``; channels scaled by zero are left out."""
        rows, columns = np.flatnonzero(output_scale), np.flatnonzero(input_scale)
        weights, base = list(self.weights), self._normalized_base()[np.ix_(rows, columns)]
        weights[0] = weights[0][:, columns] * input_scale[columns]
        weights[-1] = output_scale[rows, None] * weights[-1][rows]
        return weights, output_scale[rows, None] * base * input_scale[columns]

    def between(self, command: str, observation: str) -> tuple[list[Array], Array]:
        """Weights and base from one observation signal to one command, in SI units."""
        rows, columns = slices(self.spec.commands)[command], slices(self.spec.observations)[observation]
        output_scale, input_scale = np.zeros_like(self.action_std), np.zeros_like(self.observation_std)
        output_scale[rows], input_scale[columns] = self.action_std[rows], 1.0 / self.observation_std[columns]
        return self.rescaled(output_scale, input_scale)

    def _normalized_base(self) -> Array:
        return self.base * self.observation_std / self.action_std[:, None]

    def _activate(self, value: Array) -> Array:
        if self.activation != "groupsort":
            return ELEMENTWISE[self.activation](value)
        first, second = np.split(value, 2, axis=-1)
        return np.concatenate((np.maximum(first, second), np.minimum(first, second)), axis=-1)


def slices(signals: Sequence[Any]) -> dict[str, slice]:
    """Where each signal lies in the flat vector of all."""
    ends = np.cumsum([signal.size for signal in signals]).tolist()
    return {signal.name: slice(end - signal.size, end) for signal, end in zip(signals, ends, strict=True)}


class Forms(NamedTuple):
    """Linear forms in xi = (dz, one free number a neuron), n numbers in all.

    Attributes:
        a: One factor a neuron, shape ``(neurons, n)``.
        b: The other factor; the activation guarantees ``(a_j xi) (b_j xi) >= 0``.
        output: dy, shape ``(outputs, n)``.
        inputs: How many of xi's first numbers are dz.
    """

    a: Array
    b: Array
    output: Array
    inputs: int


def linear_forms(weights: Sequence[Array], base: Array, activation: str, minus: float = -1.0) -> Forms:
    """The forms of a network ``W_k act(... act(W_1 z)) + B z``.

    With absolute weights and ``minus=1`` they are the magnitudes that rounding in the true ones is proportional to.
    """
    inputs, paired = weights[0].shape[1], activation == "groupsort"
    neurons = [len(weight) // 2 if paired else len(weight) for weight in weights[:-1]]
    identity = np.eye(inputs + sum(neurons))
    a, b, value, start = [], [], identity[:inputs], inputs
    for weight, count in zip(weights[:-1], neurons, strict=True):
        before, free = weight @ value, identity[start : start + count]
        if paired:
            first, second = np.split(before, 2)
            mean, half = (first + second) / 2, (first + minus * second) / 2
            a.append(half + minus * free)
            b.append(half + free)
            value = np.concatenate((mean + free, mean + minus * free))
        else:
            a.append(free)
            b.append(before + minus * free)
            value = free
        start += count
    output = weights[-1] @ value + base @ identity[:inputs]
    return Forms(np.concatenate(a), np.concatenate(b), output, inputs)


def quadratic_form(forms: Forms, input_multipliers: Array | float, multipliers: Array, minus: float = -1.0) -> Array:
    """Matrix of ``sum_i r_i dz_i^2 - ||dy||^2 - 2 sum_j l_j (a_j xi) (b_j xi)``, shape ``(n, n)``."""
    cross = (forms.a.T * multipliers) @ forms.b
    matrix = minus * (cross + cross.T + forms.output.T @ forms.output)
    matrix[np.arange(forms.inputs), np.arange(forms.inputs)] += input_multipliers
    return matrix


def rounding(matrix: Array, magnitudes: Array) -> Array:
    """Diagonal matrix D such that a floating-point Cholesky factor of ``M - D`` proves M positive definite.

    Two errors matter, and for positive x a symmetric E lies below ``diag((|E| x) / x)``. Forming M: no entry has more
    than ``6 n + 32`` roundings behind it, each at most u times its sum of magnitudes. The factorisation: at most
    ``(n + 2) u sqrt(M_ii M_jj)`` (Rump 2006). With ``x_i = M_ii^-1/2``, from the magnitudes and from M.
    """
    size, diagonal = len(matrix), np.diag(matrix)
    x = 1.0 / np.sqrt(np.maximum(np.diag(magnitudes), np.finfo(np.float64).tiny))
    formed, factored = (6 * size + 32) * (magnitudes @ x) / x, (size + 2) * size * diagonal
    return np.diag(1.01 * ROUNDOFF * (formed + factored))


def least_scale(matrix: Array, pattern: Array) -> float:
    """Smallest s for which ``matrix + diag(s pattern, 0)`` is positive semidefinite, by a Schur complement.

    Args:
        matrix: The quadratic form without its r, shape ``(n, n)``.
        pattern: Positive, one number an input.

    Raises:
        CertificateError: There is no such s.
    """
    inputs = len(pattern)
    try:
        factor = np.linalg.cholesky(matrix[inputs:, inputs:])
    except np.linalg.LinAlgError:
        raise CertificateError("its multipliers prove nothing: the matrix over the neurons is not positive") from None
    reached = np.linalg.solve(factor, matrix[inputs:, :inputs])
    shape = 1.0 / np.sqrt(pattern)
    return float(np.linalg.eigvalsh(shape[:, None] * (reached.T @ reached - matrix[:inputs, :inputs]) * shape)[-1])


def proved_scale(weights: Sequence[Array], base: Array, activation: str, multipliers: Array, pattern: Array) -> float:
    """Smallest s, rounding included, for which the multipliers prove ``||dy||^2 <= s sum_i pattern_i dz_i^2``.

    Raises:
        CertificateError: They prove nothing.
    """
    matrix = quadratic_form(linear_forms(weights, base, activation), 0.0, multipliers)
    absolute = linear_forms([np.abs(weight) for weight in weights], np.abs(base), activation, minus=1.0)
    magnitudes = quadratic_form(absolute, 0.0, multipliers, minus=1.0)

    inputs, grown = np.diag(np.pad(pattern, (0, len(matrix) - len(pattern)))), (1 + INFLATION) ** 2

    def spared(scale: float) -> Array:
        return rounding(matrix + scale * inputs, magnitudes + scale * inputs)

    scale = grown * max(least_scale(matrix, pattern), 0.0)
    scale = grown * max(least_scale(matrix - spared(scale), pattern), 0.0)
    try:
        np.linalg.cholesky(matrix + scale * inputs - spared(scale))
    except np.linalg.LinAlgError:
        raise CertificateError("its multipliers prove nothing: not positive by more than rounding") from None
    return scale


def product_bound(weights: Sequence[Array], base: Array) -> float:
    """``prod ||W_i|| + ||B||``, valid for every 1-Lipschitz activation."""
    return math.prod(float(np.linalg.norm(weight, 2)) for weight in weights) + float(np.linalg.norm(base, 2))


def proved_bound(weights: Sequence[Array], base: Array, activation: str, multipliers: Sequence[Array] | None) -> float:
    """The bound that multipliers, one array a hidden layer, prove; without any, the product of norms.

    Raises:
        CertificateError: They prove nothing.
    """
    if multipliers is None:
        return product_bound(weights, base) * (1 + INFLATION)
    joined = np.concatenate([np.asarray(layer, dtype=np.float64) for layer in multipliers])
    neurons = sum(len(weight) for weight in weights[:-1]) // (2 if activation == "groupsort" else 1)
    if joined.shape != (neurons,) or not (np.isfinite(joined).all() and (joined >= 0).all()):
        raise CertificateError(f"its multipliers must be {neurons} finite numbers, none negative")
    return math.sqrt(proved_scale(weights, base, activation, joined, np.ones(weights[0].shape[1])))


def read_safetensors(path: Path) -> dict[str, Array]:
    """Tensors by name: eight bytes of header length, a JSON header, raw little-endian data."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], dtype=kinds[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def read_map(folder: str | Path) -> FeedforwardMap:
    """The deployed map of a checkpoint folder.

    Raises:
        CertificateError: A file is missing or unreadable, or holds nothing that can be certified.
    """
    folder = Path(folder)
    try:
        settings, plant = _read_json(folder / "config.json")["config"], _read_json(folder / "signals.json")["plant"]
        deployed = FeedforwardMap.from_tensors(
            read_safetensors(folder / "model.safetensors"), Plant.from_json(plant), settings["activation"],
            settings["action_base"], settings.get("squash") == "tanh", settings.get("observation_clip") is not None,
        )  # fmt: skip
        problem = deployed.problem()
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise CertificateError(f"{folder} holds no checkpoint that can be certified again: {_told(error)}") from error
    if problem:
        raise CertificateError(f"{folder} holds no network that can be certified: {problem}")
    return deployed


def check(folder: str | Path) -> dict[str, Any]:
    """Prove a checkpoint's certificate anew from its weights and return it.

    Raises:
        CertificateError: A file is missing or unreadable, the weights are not those certified, or a statement does not
            follow from them.
    """
    folder = Path(folder)
    path, deployed = folder / "certificate.json", read_map(folder)
    try:
        stated, settings = _read_json(path), _read_json(folder / "config.json")["config"]
        if hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() != stated["weights_sha256"]:
            raise CertificateError("these are not the weights it speaks of")
        for name, fresh in _statements(stated, deployed, settings.get("gamma")):
            if not agrees(fresh, stated[name]):
                raise CertificateError(f"it states a {name!r} that its weights do not have")
        if stated["steepest_slope_found"] > stated["lipschitz"]:
            raise CertificateError("its steepest_pair refutes its bound")
    except (CertificateError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise CertificateError(f"do not trust {path}, export the checkpoint again: {_told(error)}") from error
    return stated


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _told(error: Exception) -> str:
    """An error of Python or NumPy in one line."""
    words = " ".join(str(error).split())
    return f"{words} is missing" if isinstance(error, KeyError) else words


def _statements(stated: dict[str, Any], deployed: FeedforwardMap,
                gamma: float | None) -> Iterator[tuple[str, Any]]:  # fmt: skip
    """Each field of a certificate with what it must say, the costly ones last."""
    yield from TERMS.items()
    yield "gamma_requested", gamma
    yield "by_construction", gamma is not None
    yield "observation_std", deployed.observation_std.tolist()
    yield "action_std", deployed.action_std.tolist()
    yield "steepest_slope_found", deployed.slope(*stated["steepest_pair"])
    yield "lipschitz", _proved_again(stated, *deployed.normalized(), deployed)
    rows = []
    for row, (command, observation) in zip(stated["sensitivity"], deployed.pairs(), strict=True):
        gain = _proved_again(row, *deployed.between(command.name, observation.name), deployed)
        unit = f"({command.unit})/({observation.unit})"
        rows.append({**row, "command": command.name, "observation": observation.name, "gain": gain, "unit": unit})
    yield "sensitivity", rows


def _proved_again(statement: dict[str, Any], weights: list[Array], base: Array, deployed: FeedforwardMap) -> float:
    multipliers = statement["multipliers"]
    if statement["method"] not in METHODS or (multipliers is None) != (statement["method"] == PRODUCT):
        raise CertificateError(f"method {statement['method']!r} does not go with the multipliers beside it")
    return proved_bound(weights, base, deployed.activation, multipliers)


def agrees(fresh: Any, stated: Any) -> bool:
    """Equal, with numbers up to `AGREEMENT`, relative."""
    if isinstance(fresh, float):
        return isinstance(stated, int | float) and math.isclose(fresh, stated, rel_tol=AGREEMENT)
    if isinstance(fresh, list):
        return isinstance(stated, list) and len(fresh) == len(stated) and all(map(agrees, fresh, stated))
    if isinstance(fresh, dict):
        same_keys = isinstance(stated, dict) and fresh.keys() == stated.keys()
        return same_keys and all(agrees(value, stated[key]) for key, value in fresh.items())
    return fresh == stated


def summary(certificate: Mapping[str, Any]) -> str:
    """What a certificate says, for people."""
    asked = certificate["gamma_requested"]
    built = "nothing was constrained in training" if asked is None else f"its network is built for {asked:g}"
    rows = [
        f"  {row['command']} moves at most {row['gain']:.4g} {row['unit']} with {row['observation']} ({row['method']})"
        for row in certificate["sensitivity"]
    ]
    return "\n".join([
        f"Lipschitz bound {certificate['lipschitz']:.6g} ({certificate['norm']}, normalised units, "
        f"{certificate['domain']}) by {certificate['method']}; {built}",
        f"steepest slope a search found: {certificate['steepest_slope_found']:.6g}, a pair of observations is stored",
        "sensitivity in SI units, l2 to l2:", *rows,
        "conditions:", *(f"  - {line}" for line in certificate["conditions"]),
    ])  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Status 0 when the certificate holds; 2 and one line on stderr when it does not."""
    if len(arguments) != 1:
        print("usage: python check_certificate.py FOLDER", file=sys.stderr)
        return 2
    try:
        certificate = check(arguments[0])
    except CertificateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(summary(certificate))
    print(f"the certificate of {arguments[0]} holds: the bounds follow from its weights")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
