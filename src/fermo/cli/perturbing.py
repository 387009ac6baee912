"""Perturbations as words: ``friction=0.5`` is one severity, ``friction=0.5:1.5`` another one for each episode."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fermo.errors import FermoError

if TYPE_CHECKING:
    from fermo.envs.perturbations.base import Perturbation


def perturbation(text: str) -> Perturbation:
    """``NAME=SEVERITY`` or ``NAME=LOW:HIGH``. Raises `FermoError` for what is neither."""
    from fermo.envs.perturbations.registry import perturbation_class
    from fermo.envs.perturbations.schedule import EpisodeDraw

    name, _, severity = text.partition("=")
    kind = perturbation_class(name)
    try:
        numbers = [float(number) for number in severity.split(":")]
        if len(numbers) == 2:
            return EpisodeDraw(partial(kind), low=numbers[0], high=numbers[1])
        (single,) = numbers
        return kind(single)
    except (TypeError, ValueError) as error:  # no number, or a kind that wants more than a severity
        example = f"{name}={kind.nominal:g} or {name}={kind.nominal:g}:{kind.high:g}"
        raise FermoError(f"--perturb {text}: {error}; give NAME=SEVERITY or NAME=LOW:HIGH, as {example}") from None
