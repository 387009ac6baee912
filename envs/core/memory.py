"""What objects remember from one control step to the next, found by looking, so that none of them has to say it.

Sensors and perturbations are written as plain functions on tensors that they keep as attributes. A captured step must
find those tensors at the same addresses every time, and a checkpoint must save them all: both ask this module.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, MutableSequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Slot:
    """One remembered tensor: `holder[key]`, and its path from the roots, for example ``"push._force"``."""

    path: str
    holder: Any
    key: Any

    @property
    def tensor(self) -> Tensor:
        """What lies there now."""
        return self.holder[self.key]


class Memory:
    """The tensors that `roots` keep, by path.

    Attributes of fermo's own objects are followed, and lists and dictionaries; environments, tasks, back ends, random
    streams and networks belong to others and are not. An attribute that is None until it is first needed is not found
    before that.

    Args:
        roots: Objects by name.
    """

    def __init__(self, roots: dict[str, Any]) -> None:
        self.slots = {slot.path: slot for slot in _walk(roots)}
        self._homes = {path: slot.tensor for path, slot in self.slots.items()}

    def settle(self) -> None:
        """Move what was rebound back to where it was found: the addresses stay those of construction."""
        for path, slot in self.slots.items():
            home = self._homes[path]
            if slot.tensor is not home:
                home.copy_(slot.tensor)
                slot.holder[slot.key] = home

    def save(self) -> dict[str, Tensor]:
        """A copy of every tensor, by path."""
        return {path: slot.tensor.clone() for path, slot in self.slots.items()}

    def load(self, saved: dict[str, Tensor]) -> None:
        """Put back what `save` returned, in place."""
        for path, slot in self.slots.items():
            slot.tensor.copy_(saved[path])


def _walk(roots: dict[str, Any]) -> Iterator[Slot]:
    seen: set[int] = set()
    pending: list[tuple[str, Any]] = list(roots.items())
    while pending:
        path, thing = pending.pop()
        holder = thing if isinstance(thing, (dict, list)) else vars(thing)
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        for key, value in _items(holder):
            if isinstance(value, Tensor):
                yield Slot(f"{path}.{key}", holder, key)
            elif _followed(value):
                pending.append((f"{path}.{key}", value))


def _items(holder: MutableMapping[Any, Any] | MutableSequence[Any]) -> list[tuple[Any, Any]]:
    return list(holder.items() if isinstance(holder, MutableMapping) else enumerate(holder))


def _followed(value: Any) -> bool:
    from fermo.envs.core.random import WorldRandom
    from fermo.envs.core.task import Simulation, Task
    from fermo.envs.core.vector_env import VectorEnv

    if isinstance(value, (dict, list)):
        return True
    others = (WorldRandom, Simulation, Task, VectorEnv, nn.Module, type)
    module = type(value).__module__
    ours = module.startswith("fermo.") and not module.startswith("fermo.envs.core.backend")
    return ours and hasattr(value, "__dict__") and not isinstance(value, others)


def same_addresses(memory: Memory) -> bool:
    """Whether every tensor still lies where it did at construction."""
    return all(slot.tensor is memory._homes[path] for path, slot in memory.slots.items())
