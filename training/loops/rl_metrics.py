"""Returns, lengths and successes of the episodes that end while a learner collects, counted on the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fermo.training.loops.processes import Processes


class EpisodeMetrics:
    """Stands where rsl_rl's runner has its logger, and only counts: nothing is printed, written or synchronised.

    Args:
        num_envs: N.
        device: Of the rewards.
        scale: What the learner's rewards were multiplied by.
    """

    writer = None  # the runner asks before it saves anything by itself

    def __init__(self, num_envs: int, device: torch.device, scale: float = 1.0) -> None:
        self._scale = scale
        self.ongoing = torch.zeros(2, num_envs, dtype=torch.float64, device=device)
        self.ended = torch.zeros(5, dtype=torch.float64, device=device)
        self.learner: dict[str, float] = {}

    def init_logging_writer(self) -> None:
        """Nothing to open."""

    def process_env_step(self, rewards: Tensor, dones: Tensor, extras: dict[str, Any], intrinsic: Any = None) -> None:
        """Take in a step: rewards ``(N,)``, dones ``(N,)``."""
        self.ongoing[0] += rewards / self._scale
        self.ongoing[1] += 1
        done = dones.to(torch.float64)
        success = extras.get("success")
        solved = torch.zeros_like(done) if success is None else success * done
        counted = done.sum() if success is not None else torch.zeros_like(self.ended[0])
        self.ended += torch.stack([done.sum(), *(self.ongoing * done).sum(dim=1), solved.sum(), counted])
        self.ongoing *= 1.0 - done

    def log(self, *, loss_dict: dict[str, float], learning_rate: float, action_std: Tensor, **_: Any) -> None:
        """What the runner knows after a round."""
        self.learner = {f"loss/{name}": value for name, value in loss_dict.items()}
        self.learner |= {"learner/lr": learning_rate, "learner/action_std": action_std.mean().item()}

    def take(self, processes: Processes) -> dict[str, float]:
        """What is known since the last call, over all processes; means over the episodes that ended."""
        count, returns, lengths, successes, counted = processes.sum(self.ended).tolist()
        self.ended.zero_()
        metrics = dict(self.learner)
        if count:
            metrics |= {"episode/return": returns / count, "episode/length": lengths / count}
        if counted:
            metrics["episode/success"] = successes / counted
        return metrics

    def state(self) -> dict[str, Tensor]:
        """What `load` takes back."""
        return {"ongoing": self.ongoing.clone(), "ended": self.ended.clone()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on counting where `state` was taken."""
        self.ongoing.copy_(state["ongoing"])
        self.ended.copy_(state["ended"])
