"""Configurations for the paper's two benchmarks: as released, defects included, and repaired.

Sizes, noise and guidance are those of the released configurations; what the repaired ones change is said where it is
changed.
"""

from __future__ import annotations

from dataclasses import fields, replace

from fermo.errors import unknown_name
from fermo.policies.beso.config import BesoConfig, Defects, DiffusionConfig, GoalConfig
from fermo.policies.windowed.config import TransformerConfig

_BENCHMARKS: dict[str, BesoConfig] = {
    "kitchen": BesoConfig(
        context=4,
        network=TransformerConfig(layers=6, heads=6, width=360, attention_dropout=0.3, residual_dropout=0.0),
        goal=GoalConfig(kind="future", frames=2, guidance=1.5),
        diffusion=DiffusionConfig(sigma_min=0.005, sigma_max=1.0, sigma_data=0.5, sampler="euler_ancestral",
                                  schedule="linear"),
        observation_scaling="none", action_scaling="none",
    ),
    "block_push": BesoConfig(
        context=5,
        network=TransformerConfig(layers=4, heads=12, width=240, attention_dropout=0.05, residual_dropout=0.05),
        goal=GoalConfig(kind="future", guidance=2.0),
        diffusion=DiffusionConfig(sigma_min=0.05, sigma_max=1.0, sigma_data=0.5, sampler="ddim", schedule="linear"),
        action_scaling="min_max",
    ),
}  # fmt: skip


def faithful(benchmark: str) -> BesoConfig:
    """The released behaviour with all its defects.

    Training beside it: learning rate 1e-4, times 0.99 every 100 steps, batches of 1024, an average of 0.999, no
    gradient clipping; AdamW with weight decay 0.01 for 40 000 steps in the kitchen, Adam (no decay) for 60 000 at
    Block-Push.

    Args:
        benchmark: ``"kitchen"`` or ``"block_push"``.
    """
    defects = Defects(**{item.name: True for item in fields(Defects)})
    return replace(_released(benchmark), noise_levels="shared", defects=defects)


def default(benchmark: str, *, goal_signals: tuple[str, ...] = ()) -> BesoConfig:
    """The same network repaired: no defect, past actions clean, both scalings to deviation 1.

    Noise then spans 0.05 to 5 deviations of the actions, of which sampling visits 3 to 0.3, for both benchmarks are
    about ways to choose between; sigma_data is measured.
    Guidance is 1, the plain conditional policy: more of it cost accuracy in the paper's own figures.

    Args:
        benchmark: ``"kitchen"`` or ``"block_push"``.
        goal_signals: Observations that make the goal, all when empty; Block-Push's are its blocks' positions.
    """
    released = _released(benchmark)
    goal = replace(released.goal, guidance=1.0, signals=goal_signals)
    return replace(released, goal=goal, diffusion=DiffusionConfig(start=3.0, stop=0.3), observation_scaling="standard",
                   action_scaling="standard")  # fmt: skip


def _released(benchmark: str) -> BesoConfig:
    if benchmark not in _BENCHMARKS:
        raise unknown_name("BESO benchmark", benchmark, _BENCHMARKS)
    return _BENCHMARKS[benchmark]
