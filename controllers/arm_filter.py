r"""The safety filter of an arm whose commands are joint goals: between a policy and the safety limiter.

The command of a period is the step of the goal, :math:`d = g^+ - g = dt\, u`. Goals stay inside the joint limits, and
there are two rows for every half-space:

.. math:: h(g + d) \ge (1 - \gamma) h(g), \qquad
          h(\hat q + d) \ge h(\hat q) - \max(\gamma h(\hat q) - \varepsilon_\zeta, 0)

The first keeps the goals inside, exactly. The second is about the arm, which sags below its goals and lags behind them:
they step nearer to a plane by no more than the share gamma of the measured distance, less the margin, and no nearer at
all from closer than that. It does not lead the goals away from there: with the servos' lag in the loop that would make
the arm swing. So standing still meets all rows while the goal is inside, whatever was measured.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fermo.controllers.arm_filter_config import ArmFilterConfig
from fermo.controllers.barriers import JointHalfSpaces, PointHalfSpaces
from fermo.controllers.kinematics import SerialChain
from fermo.controllers.projection import PASSED, Projection
from fermo.controllers.safety_filter import SafetyFilter, stand_still

_GOAL, _MEASURED = "joint_goal", "joint_position"


class ArmFilter:
    """The goals nearest to the wanted ones that keep limits and half-spaces; where none can be trusted, the last goal.

    A world that has no goal yet starts from its measured pose.

    Args:
        config: Half-spaces, gamma, errors.
        chain: From the base to the tool; its joints are among `names`.
        names: The joints, in the order of the goals.
        low: Smallest goals, one a joint [rad].
        high: Largest goals, one a joint [rad].
        rate_hz: How often `filter` is called [Hz].

    Attributes:
        labels: Of the R rows.
    """

    def __init__(
        self, config: ArmFilterConfig, chain: SerialChain, *, names: Sequence[str], low: Sequence[float],
        high: Sequence[float], rate_hz: float,
    ) -> None:  # fmt: skip
        self._period = 1.0 / rate_hz
        self._low, self._high = (torch.tensor(side, dtype=torch.float64) for side in (low, high))
        limits = JointHalfSpaces.limits(
            np.array(low), np.array(high), names, period=self._period, gamma=1.0, position=_GOAL, slack_weight=math.inf
        )
        columns = [list(names).index(name) for name in chain.joint_names]
        planes = np.array(config.half_spaces)
        half_spaces = [
            PointHalfSpaces(
                chain, planes[:, :3], planes[:, 3], [f"{_name(plane)} ({pose})" for plane in config.half_spaces],
                period=self._period, size=len(names), columns=columns, gamma=config.gamma, error=error,
                position=position, climb=position == _GOAL,
            )
            for pose, position, error in (("goal", _GOAL, 0.0), ("measured", _MEASURED, config.error))
        ]  # fmt: skip
        speed = np.full(len(names), config.max_velocity)
        self._filter = SafetyFilter([limits, *half_spaces], -speed, speed, stand_still, repeats=0)
        self.labels = self._filter.labels
        self._goal: Tensor | None = None  # NaN where there is none yet

    @property
    def counts(self) -> Counter[str]:
        """See `SafetyFilter`."""
        return self._filter.counts

    def command(self, target: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Controller form of `filter`; the state holds ``"joint_position"``."""
        return self.filter(target, state[_MEASURED])[0]

    def filter(self, target: Tensor, measured: Tensor) -> tuple[Tensor, Projection]:
        """The nearest safe goals, and how they were found; the projection speaks of goal velocities [rad/s].

        Args:
            target: Goals that are wanted [rad], shape ``(N, n)``.
            measured: Joint positions [rad], shape ``(N, n)``.
        """
        measured = measured.detach().double()
        goal = measured if self._goal is None else torch.where(self._goal.isnan(), measured, self._goal)
        velocity = (target.detach().double() - goal) / self._period
        safe, found = self._filter.filter(velocity, {_GOAL: goal, _MEASURED: measured})
        stepped = (goal + self._period * safe).clamp(self._low, self._high)
        passed = torch.from_numpy(found.outcome == PASSED)[:, None]
        self._goal = torch.where(passed, target.detach().double(), stepped)
        return self._goal.to(target.dtype, copy=True), found

    def reset(self, mask: Tensor | None = None, pose: Tensor | None = None) -> None:
        """Begin anew in the worlds of `mask`, shape ``(N,)`` bool; in all worlds when None.

        Args:
            mask: Which worlds.
            pose: Their present goals [rad], ``(N, n)``; the next measured pose when None.
        """
        self._filter.reset(mask)
        start = None if pose is None else pose.detach().double()
        if mask is None or self._goal is None:
            self._goal = start
        else:
            self._goal = torch.where(mask[:, None], math.nan if start is None else start, self._goal)


def _name(plane: Sequence[float]) -> str:
    x, y, z, offset = plane
    return f"tool in ({x:g} {y:g} {z:g}).p >= {offset:g} m"
