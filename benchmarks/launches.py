"""How many operations one environment step asks a GPU for, counted on any machine.

A GPU that is asked for many small operations waits for the processor that asks, and a graph of them has a floor of
about two microseconds each, however few worlds there are. So the count should be small, and must not grow with N.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from gymnasium.vector import AutoresetMode
from torch.utils._python_dispatch import TorchDispatchMode

from fermo.envs.core import host
from fermo.envs.core.task import Task
from fermo.envs.core.vector_env import VectorEnv

_WARP = ("launch", "launch_tiled", "copy")
_FILLS = ("zero_", "fill_")
_NO_KERNEL = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "lift_fresh"}


@dataclass(frozen=True, kw_only=True)
class Launches:
    """What one step is made of; in a captured step, nodes of its graph.

    Attributes:
        warp: Warp's kernels, copies and fills: the physics. A loop of the solver counts once, as in a graph.
        tensor: Operations of torch that compute or copy, views left out: action map, reward, reset, observation.
    """

    warp: int
    tensor: int


def count_launches(task: Task, num_envs: int) -> Launches:
    """Those of one step of `task` on the Warp back end, with every restart in it, as it would be captured."""
    env = VectorEnv(task, num_envs, backend="warp", captured=True, autoreset_mode=AutoresetMode.SAME_STEP,
                    backend_options={"device": "cpu"})  # fmt: skip
    action = torch.zeros(num_envs, task.spec.command_size)
    env.reset()
    env.eager_step(action)  # what is made late is made
    with _counting() as (warp, tensor):
        env.eager_step(action)
    return Launches(warp=warp.count, tensor=tensor.count)


class _Calls:
    """Counts the calls of functions it stands in for."""

    def __init__(self) -> None:
        self.count = 0

    def before(self, function: Any) -> Any:
        """`function`, counted."""

        def counted(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            return function(*arguments, **named)

        return counted


class _TensorOperations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returns = func._schema.returns
        view = any(each.alias_info is not None and not each.alias_info.is_write for each in returns)
        self.count += not view and func.overloadpacket.__name__ not in _NO_KERNEL
        return func(*args, **(kwargs or {}))


@contextmanager
def _counting() -> Iterator[tuple[_Calls, _TensorOperations]]:
    import warp as wp

    warp, tensor = _Calls(), _TensorOperations()
    with ExitStack() as stack:
        for owner, names in ((wp, _WARP), (wp.array, _FILLS)):
            for name in names:
                stack.enter_context(mock.patch.object(owner, name, warp.before(getattr(owner, name))))
        # One node of a graph whatever the number of turns; and no shortcuts that only a CPU has.
        stack.enter_context(mock.patch.object(wp, "capture_while", lambda _, while_body, **named: while_body(**named)))
        stack.enter_context(mock.patch.object(host, "on_host", lambda tensor: False))
        stack.enter_context(tensor)
        yield warp, tensor
