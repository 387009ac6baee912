"""Settings of `goal_bc`; importing it does not load torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from fermo.errors import FermoError
from fermo.policies.behavior_cloning_config import require_positive
from fermo.policies.windowed.config import Backbone, PerceptronConfig, TransformerConfig, WindowedConfig, require_known

HeadName = Literal["regression", "mixture", "behavior_transformer"]


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """Of a mixture of Gaussians.

    Attributes:
        components: How many.
        min_std: Smallest deviation of a scaled action in a component; without one a likelihood may grow forever.
        spread: Of a component, when acting: 1 draws from the mixture; 0, as is common on robots, draws a component and
            takes its mean.
    """

    components: int = 5
    min_std: float = 0.01
    spread: float = 0.0

    def __post_init__(self) -> None:
        if self.components < 1:
            raise FermoError(f"components must be at least 1, got {self.components}")
        require_positive(min_std=self.min_std)
        if not 0 <= self.spread <= 1:
            raise FermoError(f"spread must lie in [0, 1], got {self.spread}")


@dataclass(frozen=True, kw_only=True)
class BehaviorTransformerConfig:
    """Of bins and offsets.

    Attributes:
        bins: Centres that k-means finds among the demonstrated actions.
        focal: gamma of the focal loss on bins; 0 makes it the cross-entropy.
        offset_weight: Of the offsets' squared error, in scaled actions, against the bins' loss.
    """

    bins: int = 64
    focal: float = 2.0
    offset_weight: float = 10.0

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise FermoError(f"bins must be at least 1, got {self.bins}")
        if not (self.focal == 0 or self.focal >= 1):  # between them the slope at certainty is infinite
            raise FermoError(f"focal must be 0 or at least 1, got {self.focal}")
        require_positive(offset_weight=self.offset_weight)


@dataclass(frozen=True, kw_only=True)
class GoalBcConfig(WindowedConfig):
    """Behaviour cloning of one chunk of actions from the observations of a window and a goal.

    Attributes:
        head: ``"regression"``, the mean action; ``"mixture"``, a mixture of Gaussians; ``"behavior_transformer"``, bins
            and offsets (Shafiullah et al. 2022; with goals and a transformer it is C-BeT, Cui et al. 2022).
        backbone: ``"perceptron"``, which reads the window side by side, or ``"transformer"``.
        perceptron: Its size.
        transformer: Its size.
        mixture: For that head.
        behavior_transformer: For that head.
    """

    head: HeadName = "regression"
    backbone: Backbone = "perceptron"
    perceptron: PerceptronConfig = field(default_factory=PerceptronConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    behavior_transformer: BehaviorTransformerConfig = field(default_factory=BehaviorTransformerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("head", self.head, get_args(HeadName))
        require_known("backbone", self.backbone, get_args(Backbone))
        if self.head == "behavior_transformer" and self.chunk > 1:
            raise FermoError(f"behavior_transformer bins single actions: give chunk 1, not {self.chunk}, or the head "
                             "mixture, whose components are whole chunks")  # fmt: skip
