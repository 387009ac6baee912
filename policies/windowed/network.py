"""What a network that reads windows tells the training loop."""

from __future__ import annotations

from torch import nn

from fermo.policies.windowed.relations import Relations


class WindowNetwork(nn.Module):
    """A network that reads the observations of a window, and a goal if there is any.

    Attributes:
        relations: What it reads of them.
    """

    relations: Relations

    def undecayed(self) -> list[nn.Parameter]:
        """What weight decay has no business with: biases, positions and normalisations."""
        matrices = {id(module.weight) for module in self.modules() if isinstance(module, nn.Linear)}
        return [parameter for parameter in self.parameters() if id(parameter) not in matrices]
