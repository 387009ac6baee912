"""What a certificate says of its policy's slope, in the units in which the closed loop is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fermo.errors import FermoError
from fermo.policies.base import Policy

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PolicyBound:
    """``||(pi(a) - pi(b)) / action_std|| <= lipschitz ||(a - b) / observation_std||`` for all observations a and b.

    Attributes:
        lipschitz: L, without unit.
        observation_std: In the observations' SI units, ``(p,)``.
        action_std: In the commands' SI units, ``(m,)``.
    """

    lipschitz: float
    observation_std: Array
    action_std: Array

    def __post_init__(self) -> None:
        values = (self.lipschitz, *self.observation_std, *self.action_std)
        if not (np.isfinite(values).all() and min(values) > 0):
            raise FermoError("a certificate needs a positive finite lipschitz, observation_std and action_std")

    @classmethod
    def from_certificate(cls, certificate: Mapping[str, Any] | None) -> PolicyBound:
        """Read what ``certificate.json`` or `Policy.certificate` says.

        Raises:
            FermoError: There is no certificate, or it lacks what is needed here.
        """
        if certificate is None:
            raise FermoError("this policy has no Lipschitz certificate, so nothing bounds its loop: use lipschitz_bc")
        try:
            return cls(
                lipschitz=float(certificate["lipschitz"]),
                observation_std=np.asarray(certificate["observation_std"], dtype=np.float64),
                action_std=np.asarray(certificate["action_std"], dtype=np.float64),
            )
        except KeyError as error:
            raise FermoError(f"the certificate lacks {error}: train again with this version") from None

    @classmethod
    def of_policy(cls, policy: Policy) -> PolicyBound:
        """Compute a policy's certificate anew from its weights and read it; raises as `from_certificate`."""
        return cls.from_certificate(policy.certificate())
