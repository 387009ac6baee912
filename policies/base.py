"""The policy contract: what every family offers to rollouts, training loops, checkpoints and the real-time loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy as np

from fermo.errors import FermoError
from fermo.policies.window import Window
from fermo.signal import PlantSpec

HalfPrecision = Literal["float16", "bfloat16"]
"""What a compiled sampler's network may compute in."""


class Policy(nn.Module, ABC):
    """Observation to action, batched over N worlds.

    Observations are flat, shape ``(N, spec.observation_size)``, and actions flat, shape ``(N, spec.command_size)``,
    both in the SI units of `spec`; normalisation and squashing happen inside, so what leaves here is what the plant
    accepts.

    Attributes:
        family: The family's name, as in the registry and in ``config.json``.
        spec: The plant the policy was made for.
        config: The family's frozen config dataclass.
        horizon: Actions one prediction covers, H >= 1.
        window: What a training sample holds of its episode; None for one frame.
        needs_next_observation: Whether `forward` reads ``"next_observation"``.
    """

    family: ClassVar[str]
    horizon: int = 1
    window: Window | None = None
    needs_next_observation: bool = False

    def __init__(self, spec: PlantSpec, config: Any) -> None:
        super().__init__()
        self.spec = spec
        self.config = config

    def reset(self, mask: Tensor | None = None) -> None:
        """Begin an episode in the worlds of `mask`, ``(N,)`` bool, or in all: forget what was remembered of them."""

    @abstractmethod
    def predict_action_chunk(self, obs: Tensor) -> Tensor:
        """The next H actions, shape ``(N, H, command_size)``, differentiable in `obs`."""

    def select_action(self, obs: Tensor) -> Tensor:
        """The action to apply now, shape ``(N, command_size)``."""
        return self.predict_action_chunk(obs)[:, 0]

    @abstractmethod
    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss, a scalar, and metrics to log.

        Args:
            batch: ``"observation"`` ``(B, observation_size)`` and ``"action"`` ``(B, H, command_size)``, in SI units;
                for a policy with a `window`, what that says. ``"next_observation"``, one control step later and shaped
                alike, where the loop was given it.
        """

    def fit_normalization(self, observations: Tensor, actions: Tensor) -> None:
        """Take whatever statistics the family needs from the data, before training.

        Args:
            observations: Shape ``(M, observation_size)``, SI units.
            actions: Shape ``(M, H, command_size)``, SI units.

        Raises:
            FermoError: The data are empty or hold NaN or infinity.
        """

    def fold(self) -> Self:
        """Turn what exists only for training (parametrised weights) into plain weights, in place; returns self.

        Checkpoints and exports hold the folded policy, whose actions are bitwise those of the unfolded one.
        """
        return self

    def undecayed_parameters(self) -> list[nn.Parameter]:
        """Parameters that weight decay leaves alone."""
        return []

    @torch.no_grad()
    def take_average(self, average: list[Tensor]) -> None:
        """Take the weights averaged over training, in the order of the parameters."""
        for parameter, mean in zip(self.parameters(), average, strict=True):
            parameter.copy_(mean)

    def compile_sampler(self, worlds: int, *, half: HalfPrecision | None = None) -> None:
        """Choose actions by one compiled function from now on, for this number of worlds; takes up to minutes.

        The weights and goal settings are those of now; a later change of them is not seen. Another number of worlds is
        compiled by another call. Gradients, where they are asked for, are still computed step by step.

        Args:
            worlds: N.
            half: Precision of the network, for GPUs; that of the weights when None.

        Raises:
            FermoError: The family samples nothing, or nothing can be compiled here.
        """
        raise FermoError(f"{self.family} samples nothing that could be compiled: leave --compile out, or take beso")

    def why_not_exportable(self) -> str | None:
        """Why a prediction is no fixed graph of operations from one observation, for `export_onnx`; None when it is."""
        return None

    def certificate(self) -> dict[str, Any] | None:
        """What is proved of the policy's slope, ready for ``certificate.json``; None when nothing is."""
        return None

    def why_uncertified(self) -> str | None:
        """Why `certificate` gives None, for the model card and ``fermo certify``; None when it gives one."""
        return "its family states no proof of its slope"

    def predict(self, observation: np.ndarray, state: Any = None, episode_start: np.ndarray | None = None,
                deterministic: bool = True) -> tuple[np.ndarray, Any]:  # fmt: skip
        """Stable-Baselines3's signature, so that its evaluation tools accept any policy of ours.

        Args:
            observation: ``(observation_size,)`` or ``(N, observation_size)``.
            state: Passed through; memory lives in the policy.
            episode_start: ``(N,)`` bool, worlds to `reset` first.
            deterministic: Accepted for compatibility.
        """
        parameter = next(self.parameters())
        obs = torch.as_tensor(observation, dtype=parameter.dtype, device=parameter.device)
        if episode_start is not None:
            self.reset(torch.as_tensor(episode_start, dtype=torch.bool, device=parameter.device))
        with torch.no_grad():
            action = self.select_action(obs.reshape(-1, obs.shape[-1]))
        return action.reshape(*obs.shape[:-1], -1).cpu().numpy(), state


class SolvedPolicy(Policy):
    """A policy whose weights are the solution of a problem, found at once, and not the end of a descent."""

    @abstractmethod
    def solve(self, observations: Tensor, actions: Tensor, *, tolerance: float, max_steps: int) -> dict[str, float]:
        """Take the solution for these demonstrations; called after `fit_normalization`.

        Args:
            observations: Shape ``(M, observation_size)``, SI units.
            actions: Shape ``(M, H, command_size)`` or ``(M, command_size)``, SI units.
            tolerance: Largest duality gap, as a share of the actions' variance.
            max_steps: Of the solver.

        Returns:
            Metrics to log.

        Raises:
            FermoError: The data do not determine a policy, or the solver gave up.
        """


class ChunkPolicy(Policy):
    """A policy whose chunks others carry out: a real-time loop goes on with one while the next one is computed."""

    @abstractmethod
    def predict_action_chunk(self, obs: Tensor, prefix: Tensor | None = None) -> Tensor:
        """The next H actions, shape ``(N, H, command_size)``, differentiable in `obs`; nothing is remembered.

        Args:
            obs: Shape ``(N, observation_size)``, SI units.
            prefix: The first d of them where they are decided already, ``(N, d, command_size)`` with ``d <= H``; they
                come back unchanged.

        Raises:
            FermoError: The prefix does not fit, or `why_no_prefix` says that none can be taken.
        """

    @abstractmethod
    def remember(self, obs: Tensor, action: Tensor) -> None:
        """Take note of what was seen, ``(N, observation_size)``, and what was then done, ``(N, command_size)``."""

    def why_no_prefix(self) -> str | None:
        """Why no action of a chunk can be decided beforehand; None when any first part can."""
        return None
