"""What every policy that maps one observation to one action lets a user set; importing it does not load torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class OneStepConfig:
    """What an action is made of.

    Attributes:
        action_base: Observation signal, of the commands' size and unit, to which the map's output is added; None when
            the map gives the whole action. The added identity path counts in the certificate.
    """

    action_base: str | None = None
