"""``fermo divergence``: how far single precision departs from double precision on a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fermo.cli.parsing import parse
from fermo.errors import FermoError

if TYPE_CHECKING:
    from fermo.envs.core.divergence import Divergence


@dataclass(frozen=True, kw_only=True)
class DivergenceOptions:
    """Step a task's model on Warp (float32) and on MuJoCo (float64) from the same states with the same controls.

    Attributes:
        task: Name of the task.
        worlds: How many starts.
        steps: Control steps.
        seed: Of the starts and the random controls.
        device: Of the warp back end; the first CUDA device, or else the CPU, when omitted.
        json: Where the numbers go; nowhere when omitted.
    """

    task: Annotated[str, tyro.conf.Positional]
    worlds: int = 16
    steps: int = 100
    seed: int = 0
    device: str | None = None
    json: Path | None = None

    def __post_init__(self) -> None:
        if self.worlds < 1 or self.steps < 2:
            raise FermoError(f"worlds start at 1 and steps at 2, got {self.worlds} and {self.steps}")


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(DivergenceOptions, "divergence", arguments)
    from fermo.envs.registry import task_id

    name = task_id(options.task)
    from tqdm import tqdm

    from fermo.envs.core.divergence import measure
    from fermo.envs.registry import make_task
    from fermo.training.files import write_json
    from fermo.training.provenance import provenance

    with tqdm(total=options.steps, desc="steps", unit="", leave=False) as bar:
        found = measure(make_task(name), options.worlds, options.steps, seed=options.seed, device=options.device,
                        progress=lambda step: bar.update(step - bar.n))  # fmt: skip
    print(_table(name, found))
    if options.json:
        about = {"task": name, "worlds": options.worlds, "steps": options.steps, "seed": options.seed,
                 "device": options.device}  # fmt: skip
        write_json(options.json, {**about, **_numbers(found), "provenance": provenance()})


def _numbers(found: Divergence) -> dict[str, Any]:
    import numpy as np

    return {
        "unit": "largest difference of a coordinate, m or rad",
        **{
            kind: {"median": np.median(rows, axis=1).tolist(), "max": rows.max(axis=1).tolist()}
            for kind, rows in (("drift", found.drift), ("one_step", found.one_step))
        },
        "growth_per_step": found.growth(),
        "first_contact_step": [int(step) if step < len(found.drift) else None for step in found.contact],
    }


def _table(name: str, found: Divergence) -> str:
    import numpy as np

    steps, worlds = found.drift.shape
    shown = sorted({step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, steps) if step <= steps})
    lines = [f"{name.removeprefix('fermo/')}, {worlds} worlds: largest difference of a coordinate [m or rad]",
             "  step  drift, median        max  one step, median        max  in contact"]  # fmt: skip
    for step in shown:
        numbers = [reduce(rows[step - 1]) for rows in (found.drift, found.one_step) for reduce in (np.median, np.max)]
        touching = int((found.contact < step).sum())
        lines.append("{:>6} {:>14.1e} {:>10.1e} {:>17.1e} {:>10.1e}  {} of {}".format(step, *numbers, touching, worlds))
    told = {"free": "before contacts begin", "contact": "in contact"}
    factors = [f"{factor:.3f} {told[phase]}" for phase, factor in found.growth().items() if factor is not None]
    lines.append(f"the drift grows by a factor a step of {' and '.join(factors) or 'nothing that can be measured'}")
    return "\n".join(lines)
