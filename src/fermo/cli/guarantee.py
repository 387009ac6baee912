"""``fermo guarantee``: how far wrong measurements can drive a checkpoint's closed loop, derived and tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fermo.cli.eval import load_pair
from fermo.cli.parsing import existing_checkpoint, existing_folder, parse
from fermo.errors import FermoError

if TYPE_CHECKING:
    from fermo.envs.core.task import Task
    from fermo.policies.base import Policy
    from fermo.training.guarantee.report import Guarantee


@dataclass(frozen=True, kw_only=True)
class GuaranteeOptions:
    """Bound the states of plant and policy under a bounded measurement error, and attack the loop in simulation.

    Attributes:
        checkpoint: Folder written by training.
        task: Which task; the one it was trained on when omitted.
        zeta: Size of the measurement error: l2, in standard deviations of the training observations.
        limit: What must not be left, as STATE=DISTANCE in SI units; the task's own safe box when omitted.
        data: Dataset it was trained on: adds what follows from the number of samples, beside what happened.
        seed: Of samples and attacks.
        json: Where to write the result; ``guarantee.json`` beside the checkpoint when omitted.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    task: str | None = None
    zeta: float = 0.05
    limit: tuple[str, ...] = ()
    data: Path | None = None
    seed: int = 0
    json: Path | None = None

    def __post_init__(self) -> None:
        if not self.zeta > 0:
            raise FermoError(f"zeta must be positive, got {self.zeta:g}")


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(GuaranteeOptions, "guarantee", arguments)
    existing_checkpoint(options.checkpoint)
    if options.data:
        existing_folder(options.data, "dataset")
    from fermo.training.files import write_json
    from fermo.training.guarantee.policy_bound import PolicyBound
    from fermo.training.guarantee.report import guarantee

    task, policy = load_pair(options.checkpoint, options.task)
    bound = PolicyBound.of_policy(policy)
    made = guarantee(task.name, policy, bound, options.zeta, safe=_safe(options.limit), seed=options.seed)
    _print(made)
    imitation = _imitation(task, policy, made, options.data) if options.data else None
    where = options.json or options.checkpoint.parent / "guarantee.json"
    write_json(where, {"checkpoint": str(options.checkpoint), "guarantee": made, "imitation": imitation})
    print(where)


def _safe(limits: tuple[str, ...]) -> dict[str, float] | None:
    """``pole_angle=0.1`` and so on."""
    safe = {}
    for limit in limits:
        name, _, value = limit.partition("=")
        try:
            safe[name] = float(value)
        except ValueError:
            raise FermoError(f"limit {limit!r} is no STATE=DISTANCE, for example pole_angle=0.1") from None
    return safe or None


def _print(made: Guarantee) -> None:
    """The statement for people."""
    print(f"{made.task}: measurement error of at most {made.zeta:g} standard deviations (l2), from rest")
    print(f"  policy slope at most {made.bound.lipschitz:.4g}; to hold the plant at all takes about {made.floor:.3g}")
    print(f"  spectral radius {made.spectral_radius:.4f} at the equilibrium")
    if made.contraction is not None:
        over = f"{len(made.ellipsoid.vertices)} slopes in the tube" if made.ellipsoid else "the equilibrium's slope"
        print(f"  common norm over {over}: contracts by {made.contraction.rho:.4f} a step, "
              f"for a slope that is off by up to {made.error_slope or 0:.3g}")  # fmt: skip
    print(f"  {'state':<16}{'tube':>10}{'l1 + rest':>11}{'of it linear':>14}{'ellipsoid':>11}{'worst found':>13}")
    for index, (name, unit) in enumerate(zip(made.states, made.units, strict=True)):
        linear = made.peak_gain.measurement if made.peak_gain else None
        columns = (made.tube, made.peak_gain and made.peak_gain.half_widths, linear,
                   made.ellipsoid and made.ellipsoid.half_widths, made.worst.largest)  # fmt: skip
        cells = ("-" if values is None else f"{values[index]:.4f}" for values in columns)
        widths = (10, 11, 14, 11, 13)
        row = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        print(f"  {name:<16}{row} {unit}")
    for reason in made.missing.values():
        print(f"  {reason}")
    box = ", ".join(f"{name} within {limit:g}" for name, limit in made.safe.items())
    print(f"  largest error certified to keep {box}: {made.largest_zeta:.4g}")


def _imitation(task: Task, policy: Policy, made: Guarantee, data: Path) -> dict[str, Any]:
    """Bounds from the number of samples, printed and returned beside what was seen."""
    from fermo.training.guarantee.observed import imitation_report

    try:
        premises, rows = imitation_report(task, policy, made.bound, data, made.zeta)
    except FermoError as error:
        print(f"  nothing follows from the number of samples: {error}")
        return {"missing": str(error)}
    print(f"  from {premises.samples} samples, in normalised units {'bound':>24}{'seen':>12}")
    for name, row in rows.items():
        value = "none" if row["bound"] is None else f"{row['bound']:.4g}"
        note = "" if row["established"] else "  void: it reaches beyond where its premises were looked at"
        print(f"    {name:<40}{value:>16}{row['seen']:>12.4g}{note}")
    return {"premises": premises, "bounds": rows}
