"""The proof tool itself: what it must catch, and what it must let pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.envs.no_sync import SynchronisationError, no_sync

X = torch.tensor([1.0, -2.0, 3.0])
MASK = X > 0

SYNCHRONISES: dict[str, Callable[[], object]] = {
    "truth of a tensor": lambda: bool(MASK.any()),
    "branch": lambda: 1 if MASK.all() else 2,
    "item": lambda: X.sum().item(),
    "float": lambda: float(X[0]),
    "list": lambda: X.tolist(),
    "numpy": lambda: X.numpy(),
    "cpu": lambda: X.cpu(),
    "nonzero": lambda: torch.nonzero(MASK),
    "one-argument where": lambda: torch.where(MASK),
    "mask read": lambda: X[MASK],
    "mask written": lambda: X.clone().__setitem__(MASK, X[:2]),
    "mask and column written": lambda: X[:, None].clone().__setitem__((MASK, 0), 0.0),
    "masked_select": lambda: X.masked_select(MASK),
    "unique": lambda: X.unique(),
    "equal": lambda: torch.equal(X, X),
    "lengths from a tensor": lambda: X.repeat_interleave(torch.ones_like(MASK, dtype=torch.int64)),
    "constant from the host": lambda: torch.tensor([1.0, 2.0]),
    "array from the host": lambda: torch.as_tensor(np.zeros(3)),
}
PASSES: dict[str, Callable[[], object]] = {
    "three-argument where": lambda: torch.where(MASK, X, 0.0),
    "arithmetic with numbers": lambda: (2.0 * X + 1).clamp(max=3.0).sum(),
    "copy": lambda: X.clone().copy_(X),
    "masked fill": lambda: X.masked_fill(MASK, 0.0),
    "gather by index": lambda: X[torch.arange(3, device=X.device) % 2],
    "slice": lambda: X[1:].clone().__setitem__(slice(0, 1), 0.0),
    "as_tensor of a tensor": lambda: torch.as_tensor(X, device=X.device),
}


@pytest.mark.parametrize("name", SYNCHRONISES)
def test_what_waits_for_a_value_is_caught(name: str) -> None:
    with no_sync(), pytest.raises(SynchronisationError):
        SYNCHRONISES[name]()
    SYNCHRONISES[name]()  # and only inside


@pytest.mark.parametrize("name", PASSES)
def test_what_a_graph_can_hold_passes(name: str) -> None:
    with no_sync():
        PASSES[name]()
