"""A chunk whose later actions are noisier, so that each control step finishes one action and begins one.

Streaming Diffusion Policy (Høeg, Du and Egeland 2024): with n noise levels and a chunk of H actions, a control step
costs n / H evaluations of the network instead of n.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fermo.policies.beso.objective import Objective
from fermo.policies.windowed.memory import Memory
from fermo.policies.windowed.world_noise import Noise


def streamed_action(objective: Objective, network: Callable[[Tensor, Tensor], Tensor], memory: Memory, noise: Noise,
                    fresh: Callable[[], Tensor]) -> Tensor:  # fmt: skip
    """The action to take now, scaled, ``(N, action_size)``; the others in the memory's queue come closer to theirs.

    Action i of the queue has ``(i + 1) n / H`` levels before it, and a step takes it over ``n / H`` of them, by Euler's
    method. Worlds without a queue get one from a fresh chunk, noised to these levels.

    Args:
        objective: Gives the levels.
        network: Answers for noised actions ``(N, H, action_size)`` at levels ``(H,)``.
        memory: Holds the scaled queue, ``(N, H, action_size)``.
        noise: Of this step.
        fresh: A scaled chunk, ``(N, H, action_size)``; called only where a world needs one.
    """
    levels = torch.tensor(objective.levels(), device=memory.queue.device, dtype=memory.queue.dtype)
    length = memory.queue.shape[1]
    stride = (len(levels) - 1) // length
    place = len(levels) - 1 - stride * torch.arange(1, length + 1, device=levels.device)
    if memory.due().any():
        chunk = fresh()
        memory.adopt(objective.noised(chunk, noise(chunk), levels[place].expand(chunk.shape[:2])))
    x = memory.queue
    for _ in range(stride):
        x = objective.advance(x, network(x, levels[place]), levels[place], levels[place + 1])
        place = place + 1
    memory.queue = torch.cat([x[:, 1:], objective.start(noise(x[:, :1]))], dim=1).detach()
    return x[:, 0]
