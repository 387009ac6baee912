"""The robustness grid: one perturbation after another, every severity of one in a single batched rollout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from tqdm import tqdm

from fermo.envs.core.task import Task
from fermo.envs.perturbations.base import Perturbation
from fermo.envs.perturbations.registry import make_perturbation, perturbation_class
from fermo.errors import FermoError
from fermo.policies.one_step import OneStepPolicy
from fermo.policies.windowed.policy import WindowedPolicy
from fermo.training.bench.evaluate import TEST_SEED
from fermo.training.bench.grid_counts import Count, Successes
from fermo.training.report.schema import Curve, Robustness, Series

Tried = OneStepPolicy | WindowedPolicy


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One perturbation and the severities it is tried at.

    Attributes:
        kind: Registered name.
        title: For people.
        sentence: What is done to the plant, in plain words.
        severities: Increasing, in the perturbation's unit; the nominal one among them.
        companion: Registered perturbation that is random noise of equal norm, shown beside it.
        normalised: Whether severities are in units of the policy's own observation normaliser.
        options: Of the perturbation itself.
    """

    kind: str
    title: str
    sentence: str
    severities: tuple[float, ...]
    companion: str | None = None
    normalised: bool = False
    options: Mapping[str, object] = field(default_factory=dict)


_NOISE = "Gaussian noise on every observation, fresh at each step, in standard deviations of the training data."
_ATTACK = ("At every step an adversary who knows the policy shifts each observation by at most this many standard "
           "deviations of the training data, along ten steps of the policy's own gradient.")  # fmt: skip
_SIGN = "observation_sign_noise"

PICK_CUBE_GRID: tuple[Axis, ...] = (
    Axis(kind="cube_mass", title="Cube mass", severities=(0.02, 0.06, 0.12, 0.24, 0.48),
         sentence="The cube is heavier than the 20 g it had in every demonstration."),
    Axis(kind="friction", title="Friction", severities=(0.0045, 0.0055, 0.01, 0.1, 1.0),
         sentence="Every surface is more slippery: the sliding friction is multiplied by this factor. The closed jaw "
                  "presses the 0.2 N cube with 23 N, so it holds until next to nothing is left."),
    Axis(kind="servo_gain", title="Servo gain", severities=(0.3, 0.5, 0.7, 1.0, 1.5),
         sentence="The servos are softer or stiffer: their position gain is multiplied by this factor."),
    Axis(kind="observation_noise", title="Observation noise", severities=(0.0, 0.03, 0.06, 0.08, 0.09),
         normalised=True, companion=_SIGN, sentence=_NOISE),
    Axis(kind="observation_delay", title="Observation delay", severities=(0.0, 0.04, 0.08, 0.12, 0.2),
         sentence="The policy sees the world as it was this long ago, on top of the tracker's own latency."),
    Axis(kind="action_delay", title="Action delay", severities=(0.0, 0.04, 0.08, 0.12, 0.2),
         sentence="Commands reach the servos this late; for a policy without memory the same as observing late."),
    Axis(kind="push", title="Pushes", severities=(0.0, 4.0, 8.0, 16.0, 32.0),
         sentence="A horizontal force on the gripper for 0.2 s, every two seconds, at a random time and direction."),
    Axis(kind="gradient_attack", title="Gradient attack", severities=(0.0, 0.02, 0.04, 0.055, 0.062), normalised=True,
         companion=_SIGN, sentence=_ATTACK),
)  # fmt: skip
"""What `fermo demo` and `fermo bench` try on PickCube; `docs` says how the severities of noise and attack were set."""

CART_POLE_GRID: tuple[Axis, ...] = (
    Axis(kind="actuator_force_limit", title="Force limit", severities=(0.02, 0.05, 0.1, 0.25, 1.0),
         sentence="The motor is weaker: the largest force is this share of 20 N."),
    Axis(kind="observation_noise", title="Observation noise", severities=(0.0, 0.5, 1.0, 2.0, 4.0), normalised=True,
         companion=_SIGN, sentence=_NOISE),
    Axis(kind="observation_delay", title="Observation delay", severities=(0.0, 0.04, 0.08, 0.12, 0.16),
         sentence="The policy sees the world as it was this long ago."),
    Axis(kind="push", title="Pushes", severities=(0.0, 5.0, 10.0, 15.0, 20.0), options={"body": "cart"},
         sentence="A horizontal force at the cart for 0.2 s, every two seconds, at a random time and direction."),
    Axis(kind="gradient_attack", title="Gradient attack", severities=(0.0, 0.2, 0.5, 1.0, 2.0), normalised=True,
         companion=_SIGN, sentence=_ATTACK),
)  # fmt: skip
"""What `fermo bench` tries on CartPole."""

PENDULUM_GRID: tuple[Axis, ...] = (
    Axis(kind="actuator_force_limit", title="Torque limit", severities=(0.02, 0.05, 0.1, 0.3, 1.0),
         sentence="The motor is weaker: the largest torque is this share of 2 N m."),
    Axis(kind="observation_noise", title="Observation noise", severities=(0.0, 0.02, 0.05, 0.1, 0.2), normalised=True,
         companion=_SIGN, sentence=_NOISE),
    Axis(kind="observation_delay", title="Observation delay", severities=(0.0, 0.025, 0.05, 0.1, 0.15),
         sentence="The policy sees the world as it was this long ago."),
    Axis(kind="gradient_attack", title="Gradient attack", severities=(0.0, 0.02, 0.05, 0.1, 0.2), normalised=True,
         companion=_SIGN, sentence=_ATTACK),
)  # fmt: skip
"""What `fermo bench` tries on Pendulum."""

BLOCK_PUSH_GRID: tuple[Axis, ...] = (
    Axis(kind="friction", title="Friction", severities=(0.2, 0.5, 1.0, 2.0, 4.0),
         sentence="Everything is more or less slippery: the sliding friction is multiplied by this factor."),
    Axis(kind="servo_gain", title="Servo gain", severities=(0.05, 0.1, 0.2, 0.5, 1.0),
         sentence="The pin follows its target more softly: its position gain is multiplied by this factor."),
    Axis(kind="observation_noise", title="Observation noise", severities=(0.0, 0.005, 0.01, 0.02, 0.05),
         normalised=True, companion=_SIGN, sentence=_NOISE),
    Axis(kind="observation_delay", title="Observation delay", severities=(0.0, 0.1, 0.2, 0.3, 0.5),
         sentence="The policy sees the world as it was this long ago."),
    Axis(kind="action_delay", title="Action delay", severities=(0.0, 0.1, 0.2, 0.3, 0.5),
         sentence="Commands reach the pin this late."),
    Axis(kind="push", title="Pushes", severities=(0.0, 0.1, 0.15, 0.2, 0.3), options={"body": "block_1"},
         sentence="A horizontal force at the first block, which friction holds with 0.1 N, for 0.2 s, every two "
                  "seconds, at a random time and direction."),
    Axis(kind="gradient_attack", title="Gradient attack", severities=(0.0, 0.005, 0.01, 0.02, 0.05), normalised=True,
         companion=_SIGN, sentence=_ATTACK),
)  # fmt: skip
"""What `fermo bench` tries on BlockPush."""

GRIDS = {
    "fermo/SO101-PickCube-v0": PICK_CUBE_GRID,
    "fermo/CartPole-v0": CART_POLE_GRID,
    "fermo/Pendulum-v0": PENDULUM_GRID,
    "fermo/BlockPush-v0": BLOCK_PUSH_GRID,
}
"""By task."""


def why_left_out(axis: Axis, policy: Tried) -> str | None:
    """Why an axis does not suit a policy, in words; None when it does."""
    if axis.kind == "gradient_attack" and not isinstance(policy, OneStepPolicy):
        return (f"{axis.kind} is left out: it climbs the gradient of a map from one observation to one action, and "
                f"{policy.family} {policy.why_not_exportable()}")  # fmt: skip
    if axis.normalised and isinstance(policy, WindowedPolicy) and policy.config.observation_scaling != "standard":
        return (f"{axis.kind} is left out: its severities are deviations of the training data, and {policy.family} "
                f"with observation_scaling {policy.config.observation_scaling} does not know them")  # fmt: skip
    return None


def suited(axes: Iterable[Axis], policies: Sequence[Tried]) -> tuple[tuple[Axis, ...], tuple[str, ...]]:
    """The axes that suit all `policies`, and why the others do not."""
    kept, reasons = [], []
    for axis in axes:
        reason = next(filter(None, (why_left_out(axis, policy) for policy in policies)), None)
        kept += [axis] if reason is None else []
        reasons += [] if reason is None else [reason]
    return tuple(kept), tuple(reasons)


def run_grid(task: Task, policies: Mapping[str, tuple[str, Tried]], axes: tuple[Axis, ...], *, worlds: int,
             seed: int = TEST_SEED, count: Count | None = None) -> Robustness:  # fmt: skip
    """Success of every policy at every severity of every axis.

    Args:
        task: What to do.
        policies: Key to label and policy.
        axes: What to try.
        worlds: Episodes a cell; every policy meets the same starts at every severity.
        seed: Of the starts and of everything random.
        count: What to count in place of success, as `WantedPairs` does.

    Raises:
        FermoError: An axis does not suit a policy, see `why_left_out`.
    """
    count = count or Successes(task=task, seed=seed)
    _, left_out = suited(axes, [policy for _, policy in policies.values()])
    if left_out:
        raise FermoError("; ".join(left_out))
    jobs = sum(len(policies) * (2 if axis.companion else 1) for axis in axes)
    # Nothing is perturbed at a nominal severity, and starts are shared, so that cell is the same on every axis.
    nominal = {
        key: int(count(policy, torch.arange(worlds)).sum())
        for key, (_, policy) in policies.items()
    }
    curves = []
    with tqdm(total=jobs, desc="perturbation grid", leave=False) as bar:
        for axis in axes:
            series = []
            for key, (label, policy) in policies.items():
                for kind in (axis.kind, axis.companion):
                    if kind is not None:
                        series.append(_series(count, key, label, policy, axis, kind, worlds, nominal[key]))
                        bar.update()
            curves.append(
                Curve(kind=axis.kind, title=axis.title, unit=perturbation_class(axis.kind).unit,
                      sentence=_sentence(axis, next(policy for _, policy in policies.values())),
                      severities=axis.severities, series=tuple(series))
            )  # fmt: skip
    return Robustness(curves=tuple(curves))


def _series(count: Count, key: str, label: str, policy: Tried, axis: Axis, kind: str, worlds: int,
            nominal: int) -> Series:  # fmt: skip
    tried = [severity for severity in axis.severities if severity != perturbation_class(kind).nominal]
    severity = torch.tensor(tried, dtype=torch.float64).repeat_interleave(worlds)
    perturbation = _perturbation(kind, severity, policy, axis)
    found = count(policy, torch.arange(worlds).repeat(len(tried)), (perturbation,))
    counts = dict(zip(tried, found.reshape(-1, worlds).sum(dim=1).tolist(), strict=True))
    return Series(policy=key, label=label, successes=tuple(int(counts.get(s, nominal)) for s in axis.severities),
                  trials=(count.each * worlds,) * len(axis.severities), random=kind != axis.kind)  # fmt: skip


def _sentence(axis: Axis, policy: Tried) -> str:
    """The axis in words; a normalised severity is given in SI units too, the mean over each signal's channels."""
    if not axis.normalised:
        return axis.sentence
    std, slices = policy.observation_normalizer.std, policy.spec.observation_slices()
    parts = (
        f"{float(axis.severities[-1] * std[slices[s.name]].mean()):.2g} {s.unit} of {s.name.replace('_', ' ')}"
        for s in policy.spec.observations
    )
    return f"{axis.sentence} {axis.severities[-1]:g} is {', '.join(parts)}."


def _perturbation(kind: str, severity: torch.Tensor, policy: Tried, axis: Axis) -> Perturbation:
    options = dict(axis.options)
    if axis.normalised:
        options["scale"] = policy.observation_normalizer.std
    if kind == "gradient_attack":
        options |= {"policy_map": policy.select_action, "action_scale": policy.action_normalizer.std}
    return make_perturbation(kind, severity, **options)


def outermost(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """The same axes with only the outermost severities, for a quick look."""
    return tuple(replace(axis, severities=(axis.severities[0], axis.severities[-1])) for axis in axes)
