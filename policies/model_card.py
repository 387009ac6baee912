"""The page a person reads first in a checkpoint folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fermo.signal import PlantSpec, Signal


def model_card(header: dict[str, Any], spec: PlantSpec, certificate: dict[str, Any] | None) -> str:
    """Markdown for ``README.md``: what the policy reads, writes and is proved to satisfy."""
    settings = "\n".join(f"| `{name}` | {value} |" for name, value in _flat(header["config"]))
    return f"""# {header["family"]} policy

Made by fermo {header["fermo_version"]} for a plant at {spec.rate_hz:g} Hz.

## Observations

{_signals(spec.observations)}

## Commands

{_signals(spec.commands)}

## Robustness

{_robustness(header, certificate)}

## Settings

| field | value |
|---|---|
{settings}

## Files

`config.json` (family and settings), `model.safetensors` (plain weights and normalisation), `signals.json` (signals,
units, normalisation, action limits){", `certificate.json`" if certificate else ""}.
Load with `fermo.policies.checkpoint.load_checkpoint`.
"""


def _flat(config: dict[str, Any], group: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by name, those of a group as ``group.name``."""
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{group}{name}.")
        else:
            yield f"{group}{name}", value


def _signals(signals: tuple[Signal, ...]) -> str:
    rows = "\n".join(f"| `{s.name}` | {s.shape} | {s.unit} | {s.device} | {s.description} |" for s in signals)
    return f"| name | shape | unit | device | |\n|---|---|---|---|---|\n{rows}"


def _robustness(header: dict[str, Any], certificate: dict[str, Any] | None) -> str:
    if certificate is None:
        return f"No certificate: {header['uncertified']}."
    rows = "\n".join(
        f"| `{row['command']}` | `{row['observation']}` | {row['gain']:.4g} {row['unit']} |"
        for row in certificate["sensitivity"]
    )
    origin = "by construction" if certificate["by_construction"] else "as training left it, none was fixed beforehand"
    conditions = "\n".join(f"- {line}" for line in certificate["conditions"])
    return (
        f"Lipschitz bound {certificate['lipschitz']:.6g} ({certificate['norm']}, normalised units, "
        f"{certificate['domain']}; {certificate['method']}; {origin}). Steepest slope a search found: "
        f"{certificate['steepest_slope_found']:.6g}.\n\n"
        f"| command | per unit of | moves at most |\n|---|---|---|\n{rows}\n\n{conditions}"
    )
