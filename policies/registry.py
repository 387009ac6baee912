"""Policy families by name; a family's module is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fermo.errors import unknown_name
from fermo.policies.base import Policy
from fermo.signal import PlantSpec

# Family -> (config, policy). A new family is its folder, one line here and one name in the contract test.
FAMILIES: dict[str, tuple[str, str]] = {
    "lipschitz_bc": ("fermo.policies.lipschitz_bc.config:LipschitzBcConfig", "fermo.policies.lipschitz_bc.policy:LipschitzBcPolicy"),
    "mlp_bc": ("fermo.policies.mlp_bc.config:MlpBcConfig", "fermo.policies.mlp_bc.policy:MlpBcPolicy"),
}  # fmt: skip


def config_class(family: str) -> type[Any]:
    """The family's frozen config dataclass. Raises `FermoError` for an unknown name."""
    return _load(_entry(family)[0])


def policy_class(family: str) -> type[Policy]:
    """The family's policy. Raises `FermoError` for an unknown name."""
    return _load(_entry(family)[1])


def make_policy(family: str, spec: PlantSpec, config: Any = None) -> Policy:
    """A fresh policy for a plant, with the family's default config when none is given."""
    return policy_class(family)(spec, config if config is not None else config_class(family)())


def _entry(family: str) -> tuple[str, str]:
    if family not in FAMILIES:
        raise unknown_name("policy family", family, FAMILIES)
    return FAMILIES[family]


def _load(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
