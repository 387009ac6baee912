"""The vocabulary every room shares: a plant is a set of named signals at a fixed rate.

A simulated task, a twin and a real robot all declare what can be observed and commanded as `Signal`s. A checkpoint
carries the `PlantSpec` it was trained on, so a mismatch is found before anything moves. This module imports nothing
but the standard library.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One named quantity with a shape, an SI unit and bounds.

    Attributes:
        name: Unique within its plant, for example ``"joint_position"``.
        shape: Shape of one sample, without the world axis.
        unit: SI unit as text, ``"rad"``, ``"m/s"``; ``"1"`` for a pure number.
        low: Lower bound per element (flattened), in `unit`; ``-inf`` where there is none.
        high: Upper bound per element (flattened), in `unit`.
        device: Which device produces or consumes it.
        description: One line for people.
    """

    name: str
    shape: tuple[int, ...]
    unit: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    device: str = "robot"
    description: str = ""

    def __post_init__(self) -> None:
        if len(self.low) != self.size or len(self.high) != self.size:
            raise ValueError(
                f"signal {self.name!r} has shape {self.shape} ({self.size} elements), "
                f"but {len(self.low)} lower and {len(self.high)} upper bounds"
            )
        for low, high in zip(self.low, self.high, strict=True):
            if not low <= high or low == math.inf or high == -math.inf:  # NaN compares false
                raise ValueError(f"signal {self.name!r} has an empty bound [{low}, {high}] {self.unit}")

    @property
    def size(self) -> int:
        """Number of elements of one sample."""
        return math.prod(self.shape)

    @classmethod
    def uniform(cls, *, name: str, shape: tuple[int, ...], unit: str, low: float = -math.inf, high: float = math.inf,
                device: str = "robot", description: str = "") -> Signal:  # fmt: skip
        """A signal whose elements all share one bound."""
        size = math.prod(shape)
        return cls(name=name, shape=shape, unit=unit, low=(low,) * size, high=(high,) * size, device=device,
                   description=description)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PlantSpec:
    """What a plant observes and accepts, and how often.

    A batched observation is the observations' elements laid end to end in this order, shape ``(N, observation_size)``;
    a batched action is the commands' likewise, shape ``(N, command_size)``.

    Attributes:
        observations: What a policy may read.
        commands: What a policy may write.
        rate_hz: How often, in hertz.
    """

    observations: tuple[Signal, ...]
    commands: tuple[Signal, ...]
    rate_hz: float

    def __post_init__(self) -> None:
        names = [signal.name for signal in self.observations + self.commands]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"signal names must be unique in a plant; repeated: {', '.join(repeated)}")
        if not (math.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise ValueError(f"rate_hz must be positive, got {self.rate_hz}")

    @property
    def observation_size(self) -> int:
        """Elements of one observation."""
        return sum(signal.size for signal in self.observations)

    @property
    def command_size(self) -> int:
        """Elements of one action."""
        return sum(signal.size for signal in self.commands)

    def observation_slices(self) -> dict[str, slice]:
        """Where each observation signal lies in the flat observation."""
        return dict(_slices(self.observations))

    def command_slices(self) -> dict[str, slice]:
        """Where each command signal lies in the flat action."""
        return dict(_slices(self.commands))

    def mismatches(self, plant: PlantSpec) -> list[str]:
        """Why a policy trained on this spec cannot run on `plant`; empty when it can.

        Every signal named here must exist there with the same shape and unit, and the plant may want no further
        command. The rates must agree. The plant may offer more observations, and its bounds may differ: they are kept
        by its safety limits.
        """
        problems = []
        for kind, ours, theirs in (
            ("observation", self.observations, plant.observations),
            ("command", self.commands, plant.commands),
        ):
            offered = {signal.name: signal for signal in theirs}
            for signal in ours:
                other = offered.get(signal.name)
                if other is None:
                    problems.append(f"{kind} {signal.name!r} is missing (the plant has {', '.join(offered) or 'none'})")
                elif other.shape != signal.shape:
                    problems.append(f"{kind} {signal.name!r} has shape {other.shape}, the policy needs {signal.shape}")
                elif other.unit != signal.unit:
                    problems.append(f"{kind} {signal.name!r} is in {other.unit}, the policy needs {signal.unit}")
        given = {signal.name for signal in self.commands}
        wanted = {signal.name for signal in plant.commands}
        problems += [f"command {name!r} is one the policy does not give" for name in sorted(wanted - given)]
        if not math.isclose(self.rate_hz, plant.rate_hz, rel_tol=1e-6):
            problems.append(f"the plant runs at {plant.rate_hz:g} Hz, the policy at {self.rate_hz:g} Hz")
        return problems

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers; infinite bounds become null."""
        data = asdict(self)
        for signal in data["observations"] + data["commands"]:
            for side in ("low", "high"):
                signal[side] = [value if math.isfinite(value) else None for value in signal[side]]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PlantSpec:
        """The inverse of `to_json`."""
        return cls(
            observations=tuple(_signal_from_json(item) for item in data["observations"]),
            commands=tuple(_signal_from_json(item) for item in data["commands"]),
            rate_hz=float(data["rate_hz"]),
        )


def _slices(signals: tuple[Signal, ...]) -> Iterator[tuple[str, slice]]:
    start = 0
    for signal in signals:
        yield signal.name, slice(start, start + signal.size)
        start += signal.size


def _signal_from_json(item: dict[str, Any]) -> Signal:
    low = tuple(-math.inf if value is None else float(value) for value in item["low"])
    high = tuple(math.inf if value is None else float(value) for value in item["high"])
    return Signal(**{**item, "shape": tuple(item["shape"]), "low": low, "high": high})
