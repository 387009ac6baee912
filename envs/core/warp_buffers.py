"""Buffers for contacts and constraint rows: how large, whether they overflowed, and larger ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import mujoco
import mujoco_warp as mjw
import torch
import warp as wp

from fermo.envs.core.backend import BackendError
from fermo.envs.core.warp_sizes import probe_sizes

_FATAL = (mjw.OverflowType.NEFC, mjw.OverflowType.NJMAX_NNZ, mjw.OverflowType.BROADPHASE, mjw.OverflowType.NARROWPHASE,
          mjw.OverflowType.CCD, mjw.OverflowType.HFIELD, mjw.OverflowType.CONTACT_MATCH)  # fmt: skip
"""Overflows after which physics is wrong; the others are limits on iterations."""


def probed_sizes(model: mujoco.MjModel, m: Any, nconmax: int | None, njmax: int | None) -> tuple[int, int]:
    """Contacts and constraint rows per world: as given, or probed."""
    if nconmax is not None and njmax is not None:
        return nconmax, njmax
    contacts, rows = probe_sizes(model)
    # Candidates of the broad phase share the contact buffer, and there can be more of them than contacts.
    contacts = max(contacts, min(len(m.nxn_geom_pair_filtered), 512))
    return contacts if nconmax is None else nconmax, rows if njmax is None else njmax


class Buffers:
    """The buffers of the worlds `d` of `model`.

    Attributes:
        version: Counts how often they were replaced.
    """

    def __init__(self, model: mujoco.MjModel, d: Any) -> None:
        self._model, self._d = model, d
        self._bits = wp.to_torch(d.overflow)  # (N,), set by the engine and never cleared by it
        self._kinds = torch.tensor([int(kind) for kind in _FATAL], dtype=torch.int32, device=self._bits.device)
        self._counts = [wp.to_torch(count) for count in (d.nacon, d.ncollision, d.nefc)]
        self._most = torch.zeros(3, dtype=torch.int32, device=self._bits.device)
        self.version = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Contacts per world (pooled over worlds) and constraint rows in each."""
        return {"nconmax": self._d.naconmax // self._d.nworld, "njmax": self._d.njmax}

    def note(self) -> None:
        """Remember the largest counts seen after a step, without waiting for the device."""
        torch.maximum(self._most, torch.stack([count.amax() for count in self._counts]), out=self._most)

    def overflowed(self) -> bool:
        """Whether anything overflowed since the buffers were made; waits for the device."""
        return bool((self._bits[:, None] & self._kinds).any())

    def check(self) -> None:
        """Raise `BackendError` naming the sizes needed if a buffer overflowed; waits for the device."""
        if self.overflowed():
            had, needed, larger = ("nconmax={nconmax}, njmax={njmax}".format(**sizes)
                                   for sizes in (self.sizes, self._needed(), self._larger()))  # fmt: skip
            raise BackendError(f"buffers overflowed ({self._names()}) at {had}; steps needed up to {needed}; give the "
                               f"warp back end {larger}, or on_overflow='regrow' to find sizes that do")  # fmt: skip

    def _names(self) -> str:
        seen = (self._bits[:, None] & self._kinds).any(dim=0).tolist()
        return ", ".join(str(kind.name) for kind, is_set in zip(_FATAL, seen, strict=True) if is_set)

    def _needed(self) -> dict[str, int]:
        contacts, candidates, rows = self._most.tolist()
        return {"nconmax": -(-max(contacts, candidates) // self._d.nworld), "njmax": rows}

    def _larger(self) -> dict[str, int]:
        needed = self._needed()
        return {name: 2 * max(size, needed[name]) for name, size in self.sizes.items()}

    def grow(self) -> None:
        """Twice the size that was needed, at least twice that there was, for both; everything else stays in place.

        Arrays of one row a world keep their address, so views of them stay live; only those that hold contacts or
        constraint rows are replaced.
        """
        larger = mjw.make_data(self._model, nworld=self._d.nworld, **self._larger())
        for field in dataclasses.fields(self._d):
            old, new = getattr(self._d, field.name), getattr(larger, field.name)
            if not isinstance(new, wp.array) or new.shape != old.shape:
                setattr(self._d, field.name, new)
        self._bits.zero_()
        self.version += 1
