"""How a hand does each of the kitchen's sub-tasks: way-points planned from what is seen, two ways to do each.

Doors are pinched by their handles and swung along their arc, the kettle is pushed with open fingers, a knob is pushed
round by its end or pinched and twisted, switch and slide are pushed sideways. Distances are in metres; handles are
reached for along y, so `out` is how far the finger tips are held back from them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fermo.envs.tasks import franka_kitchen_metrics as metrics
from fermo.envs.tasks.franka_kitchen import FrankaKitchen
from fermo.training.demos.kitchen_ways import OPEN, Part, Pointing, Way, Ways, chain, direction, row

VARIANTS = 2
"""Ways to do a sub-task."""

_FORWARD: Pointing = (0.0, 1.0, 0.0)
_FINGERS = 0.0165  # half the width of shut finger tips
_KETTLE, _KNOB, _SWITCH, _HANDLE = 0.122, 0.014, 0.021, 0.022  # half the thickness of what is pushed
_KNOB_END = 0.036  # from a knob's centre to where it is pushed
_SLOW, _PULLING, _PUSHING, _TURNING = 0.5, 0.4, 0.3, 0.08  # shares of the usual speed
_THROUGH = 0.05  # near enough to a way-point in the midst of an arc


class KitchenSkills:
    """Plans for every sub-task.

    Args:
        task: Whose kitchen it is.
    """

    def __init__(self, task: FrankaKitchen) -> None:
        model = task.model
        self._microwave = Part(model, "microwave", "microhandle_site")
        self._knobs = {metrics.BOTTOM_BURNER: Part(model, "knob_Joint_2", "knob2_site"),
                       metrics.TOP_BURNER: Part(model, "knob_Joint_4", "knob4_site")}  # fmt: skip
        self._switch = Part(model, "light_switch", "light_site")
        self._slide = Part(model, "slide_cabinet", "slide_site")
        self._hinge = Part(model, "right_hinge_cabinet", "hinge_site2")

    def plan(self, subtask: int, variant: int, qpos: Tensor) -> Ways:
        """Way-points for a sub-task, from where its things are.

        Args:
            subtask: Its number, see `fermo.envs.tasks.franka_kitchen_metrics`.
            variant: 0 or 1.
            qpos: What is seen, shape ``(M, 30)``.
        """
        if subtask in self._knobs:
            turn = (_push_knob, _twist_knob)[variant]
            return chain(turn(self._knobs[subtask], qpos))
        plans = {
            metrics.MICROWAVE: self._open_microwave,
            metrics.KETTLE: self._push_kettle,
            metrics.LIGHT_SWITCH: self._push_switch,
            metrics.SLIDE_CABINET: self._push_slide,
            metrics.HINGE_CABINET: self._open_hinge,
        }
        return chain(plans[subtask](variant, qpos))

    def _open_microwave(self, variant: int, qpos: Tensor) -> list[Way]:
        first, last, height = (((-0.28, 0.9, -0.4), (-0.6, 0.7, -0.4), 0.0),
                               ((-0.2, 0.85, -0.6), (-0.5, 0.75, -0.6), 0.05))[variant]  # fmt: skip
        return _swing(self._microwave, qpos, -0.8, first, last, height)

    def _open_hinge(self, variant: int, qpos: Tensor) -> list[Way]:
        pointing, height = ((_FORWARD, -0.05), ((-0.1, 1.0, 0.1), -0.09))[variant]
        return _swing(self._hinge, qpos, 1.45, pointing, pointing, height)

    def _push_kettle(self, variant: int, qpos: Tensor) -> list[Way]:
        """From behind, low, with both finger tips, and not quite to the goal: farther on it turns aside."""
        pointing, height, above = (((0.0, 0.4, -0.9), 1.685, 0.12), ((0.0, 0.5, -0.8), 1.7, 0.04))[variant]
        x, y = qpos[:, 23], qpos[:, 24]
        behind = _KETTLE + 0.012
        end = y.clamp_min(metrics.SUBTASKS[metrics.KETTLE].goal[1] - 0.16)

        def at(y: Tensor, height: float) -> Tensor:
            return torch.stack([x, y - behind, torch.full_like(x, height)], dim=1)

        return [
            Way(position=at(y - 0.05, height + above), pointing=pointing, opening=OPEN),
            Way(position=at(y - 0.03, height), pointing=pointing, opening=OPEN),
            Way(position=at(end, height), pointing=pointing, opening=OPEN, pace=_SLOW),
            Way(position=at(end - 0.05, height), pointing=pointing, opening=OPEN, leaving=True),
            Way(position=at(end - 0.1, height + 0.2), pointing=(0.0, 0.7, -0.7), leaving=True),
        ]

    def _push_switch(self, variant: int, qpos: Tensor) -> list[Way]:
        """To the left, from its right side."""
        pointing, height = ((_FORWARD, 0.0), ((0.15, 1.0, 0.0), -0.008))[variant]
        now = qpos[:, self._switch.element]

        def beside(share: float, gap: float, out: float) -> Tensor:
            lever = self._switch.at(now + share * (-0.8 - now))
            return lever + row(_SWITCH + _FINGERS + gap, 0.01 - out, height)

        pushes = [Way(position=beside(share, -0.012, 0.0), pointing=pointing, pace=_PUSHING, near=_THROUGH)
                  for share in (1 / 3, 2 / 3, 1.0)]  # fmt: skip
        return [
            Way(position=beside(0.0, 0.02, 0.1), pointing=pointing),
            Way(position=beside(0.0, 0.015, 0.0), pointing=pointing, pace=_SLOW),
            *pushes,
            Way(position=beside(1.0, 0.02, 0.1), pointing=pointing, leaving=True),
        ]

    def _push_slide(self, variant: int, qpos: Tensor) -> list[Way]:
        """To the right, from the left side of its handle."""
        pointing, height = ((_FORWARD, -0.06), ((0.0, 0.95, 0.25), 0.0))[variant]
        now = qpos[:, self._slide.element]
        end = torch.full_like(now, 0.38)

        def beside(value: Tensor, gap: float, out: float) -> Tensor:
            return self._slide.at(value) + row(-_HANDLE - _FINGERS - gap, 0.015 - out, height)

        return [
            Way(position=beside(now, 0.025, 0.1), pointing=pointing),
            Way(position=beside(now, 0.02, 0.0), pointing=pointing, pace=_SLOW),
            Way(position=beside(end, 0.0, 0.0), pointing=pointing, pace=_SLOW),
            Way(position=beside(end, 0.025, 0.1), pointing=pointing, leaving=True),
        ]


def _push_knob(knob: Part, qpos: Tensor) -> list[Way]:
    """Push the knob's upper end to the right and round, with shut fingers; its damping wants time."""
    now = -qpos[:, knob.element]

    def beside(turn: Tensor, gap: float, out: float) -> Tensor:
        sin, cos, zero = turn.sin(), turn.cos(), torch.zeros_like(turn)
        end = _KNOB_END * torch.stack([sin, zero, cos], dim=1)
        left = (_KNOB + _FINGERS + gap) * torch.stack([-cos, zero, sin], dim=1)
        return knob.site + end + left - row(0.0, out, 0.0)

    pushes = [Way(position=beside(now + share * (1.2 - now), -0.015, -0.008), pointing=_FORWARD, pace=_TURNING,
                  near=_THROUGH) for share in (0.25, 0.5, 0.75)]  # fmt: skip
    last = torch.full_like(now, 1.2)
    return [
        Way(position=beside(now, 0.02, 0.1), pointing=_FORWARD),
        Way(position=beside(now, 0.015, -0.008), pointing=_FORWARD, pace=_SLOW),
        *pushes,
        Way(position=beside(last, -0.015, -0.008), pointing=_FORWARD, pace=_TURNING),
        Way(position=beside(last, 0.02, 0.1), pointing=_FORWARD, leaving=True),
    ]


def _twist_knob(knob: Part, qpos: Tensor) -> list[Way]:
    """Pinch the knob and roll the hand."""
    centre = knob.site.expand(len(qpos), 3)
    away, there = centre - row(0.0, 0.1, 0.0), centre + row(0.0, 0.01, 0.0)
    turns = [Way(position=there, pointing=_FORWARD, roll=roll, pace=_SLOW) for roll in (0.35, 0.7, 1.05)]
    return [
        Way(position=away, pointing=_FORWARD, opening=OPEN),
        Way(position=there, pointing=_FORWARD, opening=OPEN, pace=_SLOW),
        Way(position=there, pointing=_FORWARD, pause=4),
        *turns,
        Way(position=there, pointing=_FORWARD, roll=1.05, opening=OPEN, pause=2, leaving=True),
        Way(position=away, pointing=_FORWARD, opening=OPEN, leaving=True),
    ]


def _swing(door: Part, qpos: Tensor, end: float, first: Pointing, last: Pointing, height: float) -> list[Way]:
    """Pinch a door's handle and pull it along its arc to the joint position `end`, while the hand turns."""
    now = qpos[:, door.element]

    def at(share: float, pointing: Pointing, deeper: float) -> Tensor:
        return door.at(now + share * (end - now)) + deeper * direction(pointing) + row(0.0, 0.0, height)

    def pull(share: float) -> Way:
        x, y, z = ((1.0 - share) * a + share * b for a, b in zip(first, last, strict=True))
        return Way(position=at(share, (x, y, z), 0.02), pointing=(x, y, z), pace=_PULLING, near=_THROUGH)

    return [
        Way(position=at(0.0, first, -0.1), pointing=first, opening=OPEN),
        Way(position=at(0.0, first, 0.02), pointing=first, opening=OPEN, pace=_SLOW),
        Way(position=at(0.0, first, 0.02), pointing=first, pause=4),
        *(pull(k / 6) for k in range(1, 7)),
        Way(position=at(1.0, last, 0.02), pointing=last, opening=OPEN, pause=2, leaving=True),
        Way(position=at(1.0, last, -0.1), pointing=last, opening=OPEN, leaving=True),
    ]
