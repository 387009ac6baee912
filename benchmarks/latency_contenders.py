"""Diffusion policies that answer one observation a world: fermo's, diffusers' schedulers on its network, LeRobot's.

All have weights as they were drawn: what they answer means nothing, and it takes as long as if they were trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.policies.base import HalfPrecision
from fermo.policies.beso.config import BesoConfig, DdpmConfig
from fermo.policies.beso.ddpm import Ddpm
from fermo.policies.beso.diffusion import Diffusion
from fermo.policies.beso.objective import Network
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.beso.presets import default
from fermo.policies.windowed.world_noise import Noise
from fermo.signal import PlantSpec, Signal

SIZES = {"block_push": (10, 2), "kitchen": (30, 9)}
"""Elements of an observation and of an action, by BESO's benchmark; its preset has the network's size."""

SMALL_U_NET = (64, 128, 256)
"""Channels of LeRobot's network where it is brought down to about the size of fermo's."""

_TRAINING_STEPS = 100  # of DDPM, as LeRobot has them


@dataclass(frozen=True, kw_only=True)
class Bout:
    """What all contenders are asked for.

    Attributes:
        size: A name in `SIZES`.
        batch: Observations answered at once.
        evaluations: Of the network, in an answer.
        device: Where they run.
    """

    size: str
    batch: int
    evaluations: int
    device: str = "cpu"

    def observations(self) -> Tensor:
        """Shape ``(batch, observation_size)``."""
        random = torch.Generator().manual_seed(0)
        return torch.randn(self.batch, SIZES[self.size][0], generator=random).to(self.device)


class Contender(NamedTuple):
    """What answers, and how many parameters it has."""

    answer: Callable[[], Tensor]
    parameters: int


def fermo_policy(bout: Bout, *, guidance: float = 1.0, objective: str = "edm") -> BesoPolicy:
    """Of the preset's size, with a goal, sampled by so many steps of DDIM."""
    config = default(bout.size)
    diffusion = replace(config.diffusion, steps=bout.evaluations, sigma_data=1.0)
    ddpm = DdpmConfig(training_steps=_TRAINING_STEPS, sampler="ddim", steps=bout.evaluations)
    config = replace(config, diffusion=diffusion, ddpm=ddpm, goal=replace(config.goal, guidance=guidance),
                     objective=objective)  # fmt: skip
    return _fitted(BesoPolicy(_spec(bout), config), bout)


def _fitted(policy: BesoPolicy, bout: Bout) -> BesoPolicy:
    size, actions = SIZES[bout.size]
    random = torch.Generator().manual_seed(1)
    policy.fit_normalization(torch.randn(256, size, generator=random), torch.randn(256, actions, generator=random))
    policy = policy.eval().requires_grad_(False).to(bout.device)
    policy.set_goal(torch.ones(policy.goals.frames, policy.goals.size, device=bout.device))
    return policy


def _spec(bout: Bout) -> PlantSpec:
    seen, done = SIZES[bout.size]
    return PlantSpec(observations=(Signal.uniform(name="state", shape=(seen,), unit="1"),),
                     commands=(Signal.uniform(name="action", shape=(done,), unit="1"),), rate_hz=10.0)  # fmt: skip


def _asked(policy: BesoPolicy, bout: Bout) -> Contender:
    obs = bout.observations()
    return Contender(lambda: policy.select_action(obs), _size(policy.network))


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def eager(bout: Bout) -> Contender:
    """Operation by operation."""
    return _asked(fermo_policy(bout), bout)


def compiled(bout: Bout, *, guidance: float = 1.0, half: HalfPrecision | None = None) -> Contender:
    """By one compiled function, a CUDA graph on a GPU."""
    policy = fermo_policy(bout, guidance=guidance)
    policy.compile_sampler(bout.batch, half=half)
    return _asked(policy, bout)


class ScheduledDiffusion(Diffusion):
    """Sampled by diffusers' Euler steps in EDM's formulation, which scale the network's inputs and outputs."""

    def __init__(self, config: BesoConfig) -> None:
        super().__init__(config.diffusion)
        self.scheduler = _diffusers("EDMEulerScheduler")(
            sigma_min=self.sigmas[-2], sigma_max=self.sigmas[0], sigma_data=1.0, sigma_schedule="exponential"
        )

    def network_input(self, noised: Tensor, level: Tensor) -> Tensor:
        """As it is: sampled actions come scaled, and with sigma_data = 1 clean ones are."""
        return noised

    def sample(self, network: Network, x: Tensor, noise: Noise) -> Tensor:
        """As diffusers' pipelines do."""
        scheduler = self.scheduler
        scheduler.set_timesteps(self.config.steps, device=x.device)
        for index, t in enumerate(scheduler.timesteps):
            answers = network(scheduler.scale_model_input(x, t), scheduler.sigmas[index])  # type: ignore[arg-type]
            x = scheduler.step(answers, t, x).prev_sample
        return x


class ScheduledDdpm(Ddpm):
    """Sampled by diffusers' DDIM."""

    def __init__(self, config: BesoConfig, action_size: int) -> None:
        super().__init__(config.ddpm, action_size)
        self.scheduler = _diffusers("DDIMScheduler")(
            num_train_timesteps=_TRAINING_STEPS, beta_schedule="squaredcos_cap_v2", clip_sample=False,
            timestep_spacing="trailing",
        )  # fmt: skip

    def sample(self, network: Network, x: Tensor, noise: Noise) -> Tensor:
        """As diffusers' pipelines do; its step t is the level t + 1 here."""
        self.scheduler.set_timesteps(self.config.steps, device=x.device)
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(network(x, t + 1), t, x).prev_sample
        return x


def diffusers_euler(bout: Bout) -> Contender:
    """Fermo's network and memory under diffusers' EDM scheduler."""
    policy = fermo_policy(bout)
    policy.objective = ScheduledDiffusion(policy.config).to(bout.device)
    return _asked(policy, bout)


def diffusers_ddim(bout: Bout) -> Contender:
    """Fermo's network and memory under diffusers' DDIM scheduler."""
    policy = fermo_policy(bout, objective="ddpm")
    policy.objective = ScheduledDdpm(policy.config, policy.spec.command_size).to(bout.device)
    return _asked(policy, bout)


def _diffusers(name: str) -> Any:
    return getattr(_installed("diffusers", "pip install 'fermo[latency]'"), name)


def _lerobot(**settings: Any) -> Callable[[Bout], Contender]:
    def make(bout: Bout) -> Contender:
        """LeRobot's diffusion policy, which answers every observation anew; its DDIM, its U-Net over 16 actions."""
        types, configuration, modeling = _lerobot_modules()
        seen, done = SIZES[bout.size]
        features = {f"observation.{name}": types.PolicyFeature(kind, (size,)) for name, kind, size in
                    (("state", types.FeatureType.STATE, seen // 2),
                     ("environment_state", types.FeatureType.ENV, seen - seen // 2))}  # fmt: skip
        config = configuration.DiffusionConfig(
            input_features=features, output_features={"action": types.PolicyFeature(types.FeatureType.ACTION, (done,))},
            noise_scheduler_type="DDIM", num_inference_steps=bout.evaluations, n_action_steps=1, device=bout.device,
            **settings,
        )  # fmt: skip
        policy = modeling.DiffusionPolicy(config).eval().requires_grad_(False).to(bout.device)
        obs = bout.observations()
        halves = dict(zip(features, (obs[:, : seen // 2], obs[:, seen // 2 :]), strict=True))
        return Contender(lambda: policy.select_action(dict(halves)), _size(policy.diffusion))

    return make


def _lerobot_modules() -> tuple[Any, Any, Any]:
    _installed("lerobot", "see docs/performance.md")
    _declare_torchvision_operators()
    try:
        return tuple(import_module(f"lerobot.{name}") for name in (
            "configs.types", "policies.diffusion.configuration_diffusion", "policies.diffusion.modeling_diffusion",
        ))  # type: ignore[return-value]  # fmt: skip
    except ImportError as error:
        raise FermoError(f"LeRobot does not load: {error}") from error


def _declare_torchvision_operators() -> None:
    """Torchvision built for another torch cannot be imported for want of two operators, which no policy here calls."""
    try:
        import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)


_declared: list[Any] = []  # a library that is forgotten takes its declarations with it


def _installed(package: str, advice: str) -> Any:
    try:
        return import_module(package)
    except ImportError:
        raise FermoError(f"{package} is not installed: {advice}") from None


FERMO, ON_GPUS = "fermo, compiled", ("fermo, compiled, float16", "fermo, compiled, bfloat16")
CONTENDERS: dict[str, Callable[[Bout], Contender]] = {
    FERMO: compiled,
    "fermo, compiled, float16": lambda bout: compiled(bout, half="float16"),
    "fermo, compiled, bfloat16": lambda bout: compiled(bout, half="bfloat16"),
    "fermo, compiled, guidance 2": lambda bout: compiled(bout, guidance=2.0),
    "fermo": eager,
    "diffusers Euler, fermo's network": diffusers_euler,
    "diffusers DDIM, fermo's network": diffusers_ddim,
    "LeRobot": _lerobot(),
    "LeRobot, small": _lerobot(down_dims=SMALL_U_NET),
    "LeRobot, small, compiled": _lerobot(down_dims=SMALL_U_NET, compile_model=True),
}
"""By name. Each raises `FermoError` with the reason where it cannot take part."""
