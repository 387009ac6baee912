"""Policy families by name; a family's module is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from fermo.errors import unknown_name
from fermo.signal import PlantSpec

if TYPE_CHECKING:
    from fermo.policies.base import Policy

# Family, which is its folder's name -> (class in config.py, class in policy.py). A new family is its folder, one line
# here and one name in the contract test.
FAMILIES: dict[str, tuple[str, str]] = {
    "actor_mlp": ("ActorMlpConfig", "ActorMlpPolicy"),
    "beso": ("BesoConfig", "BesoPolicy"),
    "goal_bc": ("GoalBcConfig", "GoalBcPolicy"),
    "lipschitz_bc": ("LipschitzBcConfig", "LipschitzBcPolicy"),
    "lipschitz_extension": ("LipschitzExtensionConfig", "LipschitzExtensionPolicy"),
    "mlp_bc": ("MlpBcConfig", "MlpBcPolicy"),
    "smooth_bc": ("SmoothBcConfig", "SmoothBcPolicy"),
}


def config_class(family: str) -> type[Any]:
    """The family's frozen config dataclass. Raises `FermoError` for an unknown name."""
    return _load(family, "config")


def policy_class(family: str) -> type[Policy]:
    """The family's policy. Raises `FermoError` for an unknown name."""
    return _load(family, "policy")


def make_policy(family: str, spec: PlantSpec, config: Any = None) -> Policy:
    """A fresh policy for a plant, with the family's default config when none is given."""
    return policy_class(family)(spec, config if config is not None else config_class(family)())


def _load(family: str, module: Literal["config", "policy"]) -> Any:
    if family not in FAMILIES:
        raise unknown_name("policy family", family, FAMILIES)
    name = FAMILIES[family][0 if module == "config" else 1]
    return getattr(import_module(f"fermo.policies.{family}.{module}"), name)
