"""Goals on their way to the network: checked, scaled, reduced to what counts, and now and then hidden."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fermo.errors import FermoError, unknown_name
from fermo.policies.normalizer import Normalizer
from fermo.policies.window import ColumnGoal, FutureGoal
from fermo.policies.windowed.config import GoalSourceConfig
from fermo.signal import PlantSpec


class Goals(nn.Module):
    """Scales goals and hides some in training; a hidden goal is all zeros, which no sample's goal is by chance.

    Attributes:
        frames: G, successive frames of a goal; 0 for a policy that knows none.
        vector_size: Elements of a goal that is no observation; None when it is one.
        size: Elements of a goal, whatever it is.
        counts: Which elements of a scaled goal are told, 1 or 0, shape ``(goal_size,)``.
    """

    counts: Tensor

    def __init__(self, config: GoalSourceConfig, spec: PlantSpec) -> None:
        super().__init__()
        self.config = config
        self.frames = 0 if config.kind == "none" else config.frames
        self.vector_size = config.size if config.kind in ("one_hot", "features") else None
        self.size = spec.observation_size if config.kind == "future" else config.size
        self.register_buffer("counts", self._counts(spec), persistent=False)

    def _counts(self, spec: PlantSpec) -> Tensor:
        if not self.config.signals:
            return torch.ones(self.size)
        slices, counts = spec.observation_slices(), torch.zeros(self.size)
        for name in self.config.signals:
            if name not in slices:
                raise unknown_name("goal signal", name, slices)
            counts[slices[name]] = 1.0
        return counts

    def source(self) -> FutureGoal | ColumnGoal | None:
        """Where training finds them."""
        config = self.config
        if config.kind == "none":
            return None
        if config.kind == "future":
            return FutureGoal(frames=config.frames, ends=config.ends)
        return ColumnGoal(name=config.column, size=config.size, one_hot=config.kind == "one_hot")

    def check(self, goal: Tensor) -> Tensor:
        """A goal or one a world as ``(1 or N, G, goal_size)``, float32.

        Raises:
            FermoError: The shape is another, an element is NaN or infinite, or the policy knows no goals.
        """
        if self.config.kind == "none":
            raise FermoError("this policy knows no goals: train one whose goal kind is future, one_hot or features")
        frames = self.config.frames
        shape = tuple(goal.shape)
        if shape == (self.size,) and frames == 1:
            goal = goal[None, None]
        elif shape == (frames, self.size):
            goal = goal[None]
        elif goal.ndim == 2 and frames == 1 and shape[1] == self.size:
            goal = goal[:, None]
        if goal.ndim != 3 or tuple(goal.shape[1:]) != (frames, self.size):
            needed = f"({frames}, {self.size}), or (N, {frames}, {self.size}) for N worlds"
            raise FermoError(f"a goal of this policy has shape {needed}; got {shape}")
        if not goal.isfinite().all():
            raise FermoError("the goal holds NaN or infinity: give finite numbers")
        return goal.float()

    def blank(self) -> Tensor:
        """A goal of zeros, ``(G, goal_size)``."""
        return self.counts.new_zeros(self.frames, self.size)

    def scaled(self, goal: Tensor, normalizer: Normalizer) -> Tensor:
        """SI units to what the network reads, ``(N, G, goal_size)``; a vector goal is read as it is."""
        scaled = normalizer(goal) if self.config.kind == "future" else goal
        return scaled * self.counts

    def hide(self, goal: Tensor) -> Tensor:
        """Set whole samples' goals to zero, each with the dropout's probability, from torch's current stream."""
        return goal * (torch.rand(len(goal), 1, 1, device=goal.device) >= self.config.dropout)
