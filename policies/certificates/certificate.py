"""The certificate of a policy's map: the tightest bound that can be proved, with its proof, as plain JSON.

A certificate speaks of the deployed weights, normaliser, action scale and action base included, over every observation.
`fermo.policies.certificates.check_certificate` states what a proof is and checks it with NumPy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fermo.errors import FermoError
from fermo.policies.certificates.bounds import Bound, add_base, closed_forms, product
from fermo.policies.certificates.check_certificate import (
    PRODUCT,
    TERMS,
    Array,
    CertificateError,
    FeedforwardMap,
    check,
    linear_forms,
    product_bound,
    proved_bound,
)
from fermo.policies.certificates.lipsdp import DEFAULT_SEARCH, SearchConfig, SearchFailed, search

LIPSDP = "LipSDP-neuron"
LARGEST = 1e60  # bound whose powers float64 can hold
ROW_SEARCH = SearchConfig(tolerance=1e-2)  # for a row of the table; the bound is some 1e-4 above its least


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A bound and what proves it.

    Attributes:
        bound: Of ``||dy|| / ||dz||``.
        method: Who chose the multipliers, one of `check_certificate.METHODS`.
        multipliers: One array a hidden layer; None for the product of norms, which needs none.
        note: Why LipSDP is not the method, or stopped early; empty otherwise.
    """

    bound: float
    method: str
    multipliers: list[Array] | None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """What a certificate keeps beside the bound."""
        layers = None if self.multipliers is None else [layer.tolist() for layer in self.multipliers]
        return {"method": self.method, "note": self.note, "multipliers": layers}


def tightest_proof(weights: Sequence[Array], base: Array, activation: str,
                   config: SearchConfig = DEFAULT_SEARCH) -> Proof:  # fmt: skip
    """The smallest bound of ``W_k act(... W_1 z) + B z`` that float64 can prove; the product of norms at worst.

    Args:
        weights: Finite, shapes ``(out, in)``.
        base: B, shape ``(outputs, inputs)``.
        activation: One of `check_certificate.ACTIVATIONS`.
        config: Of LipSDP's search.
    """
    candidates = {name: bound[1] for name, bound in closed_forms(weights, base, activation).items() if name != PRODUCT}
    note = ""
    try:
        candidates[LIPSDP], ended = lipsdp(weights, base, activation, config)
        note = "" if ended == "converged" else f"LipSDP: {ended}"
    except SearchFailed as reason:
        note = f"LipSDP: {reason}"
    best = Proof(bound=proved_bound(weights, base, activation, None), method=PRODUCT, multipliers=None, note=note)
    for name, multipliers in candidates.items():
        try:
            bound = proved_bound(weights, base, activation, multipliers)
        except CertificateError as reason:
            note = note or f"{name}: {reason}"
            continue
        if bound < best.bound:
            best = Proof(bound=bound, method=name, multipliers=multipliers, note=note)
    return best


def lipsdp(weights: Sequence[Array], base: Array, activation: str, config: SearchConfig) -> tuple[list[Array], str]:
    """LipSDP's multipliers, one array a hidden layer, and how the search for them ended.

    Raises:
        SearchFailed: It could not begin.
    """
    starts = feasible_starts(weights, base, activation)
    forms = linear_forms(weights, base, activation)
    found = search(forms, [(bound, np.concatenate(layers)) for bound, layers in starts], config=config)
    return np.split(found.multipliers, np.cumsum([len(layer) for layer in starts[0][1]])[:-1]), found.ended


def feasible_starts(weights: Sequence[Array], base: Array, activation: str) -> list[Bound]:
    """Closed forms from which LipSDP's search may start, the tightest first."""
    bounds = [bound for name, bound in closed_forms(weights, base, activation).items() if name != PRODUCT]
    return sorted([*bounds, add_base(product(weights, activation, slack=0.05), base)], key=lambda bound: bound[0])


def certify(deployed: FeedforwardMap, *, gamma_requested: float | None) -> dict[str, Any]:
    """The certificate of a policy's map.

    ``lipschitz`` bounds the map from normalised observation to action in units of ``action_std``, l2 to l2. Each row of
    ``sensitivity`` bounds, in SI units and l2, how far one command moves per unit of change of one observation signal.

    Raises:
        FermoError: A weight is NaN, infinite or absurdly large, shapes do not fit, or the activation has no proof.
    """
    if problem := deployed.problem():
        raise FermoError(f"this policy cannot be certified: {problem}")
    if not product_bound(*deployed.normalized()) < LARGEST:
        raise FermoError("this policy cannot be certified: its weights are too large for a bound in float64")
    proof = tightest_proof(*deployed.normalized(), deployed.activation)
    return {
        **TERMS,
        "lipschitz": proof.bound,
        **proof.to_json(),
        "gamma_requested": gamma_requested,
        "by_construction": gamma_requested is not None,
        "observation_std": deployed.observation_std.tolist(),
        "action_std": deployed.action_std.tolist(),
        "sensitivity": [_row(deployed, command, observation) for command, observation in deployed.pairs()],
    }


def _row(deployed: FeedforwardMap, command: Any, observation: Any) -> dict[str, Any]:
    """How far one command moves with one observation signal, in SI units."""
    between = deployed.between(command.name, observation.name)
    proof = tightest_proof(*between, deployed.activation, ROW_SEARCH)
    unit = f"({command.unit})/({observation.unit})"
    names = {"command": command.name, "observation": observation.name}
    return {**names, "gain": proof.bound, "unit": unit, **proof.to_json()}


def verify_certificate(folder: str | Path) -> dict[str, Any]:
    """Prove a checkpoint's certificate anew from its weights, with NumPy alone, and return it.

    Raises:
        FermoError: A file is missing or unreadable, the weights are not those certified, or a statement does not follow
            from them.
    """
    try:
        return check(folder)
    except CertificateError as error:
        raise FermoError(str(error)) from error
