"""The controller contract: target and state to motor command, the same object in simulation and on a robot."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Controller(Protocol):
    """Batched over N worlds, no simulator inside, differentiable where that is cheap."""

    def command(self, target: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Motor command, shape ``(N, nu)``.

        Args:
            target: What to reach, shape and unit as the controller says.
            state: Named measurements, for example ``"joint_position"`` ``(N, nu)`` [rad].
        """
        ...

    def reset(self, mask: Tensor | None = None) -> None:
        """Forget the worlds in `mask`, shape ``(N,)`` bool; all of them when None."""
        ...
