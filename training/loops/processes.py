"""Several processes of one training, as ``torchrun`` starts them; alone, all of it does nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from fermo.errors import FermoError

PATIENCE = timedelta(minutes=10)  # a process that waits longer for another one gives up


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among the others.

    Attributes:
        rank: Number of this process; the first one, 0, writes files.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def worlds(self, num_envs: int) -> Tensor:
        """Numbers of this process's own worlds, ``(num_envs,)``: none is simulated twice."""
        return torch.arange(self.rank * num_envs, (self.rank + 1) * num_envs)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return bool(self.sum(torch.tensor(float(flag))) > 0)

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean of each value over the processes."""
        means = self.sum(torch.tensor(list(values.values()), dtype=torch.float64)) / self.count
        return dict(zip(values, means.tolist(), strict=True))

    def share(self, values: Tensor) -> Tensor:
        """This process's own of `values`, ``(K * count, ...)``, shape ``(K, ...)``; together they are all."""
        return values[self.rank :: self.count]

    def module(self, module: nn.Module) -> nn.Module:
        """`module` such that a backward pass leaves the mean of all processes' gradients in its parameters."""
        if self.count == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)

    def sum(self, values: Tensor) -> Tensor:
        """`values` added over the processes."""
        if self.count > 1:
            device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else "cpu"
            values = values.to(device, copy=True)
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Every process's value at the first process, in their order; an empty list elsewhere."""
        if self.count == 1:
            return [value]
        gathered: list[Any] | None = [None] * self.count if self.first else None
        dist.gather_object(value, gathered)
        return gathered or []

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def joined(*, on_gpu: bool) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started.

    Args:
        on_gpu: Whether they compute on GPUs, one for each process, and so speak by NCCL, or on the CPU, by Gloo.

    Raises:
        FermoError: There are more processes on this machine than GPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if on_gpu:
        if local >= torch.cuda.device_count():
            raise FermoError(f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}")
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpu else "gloo", rank=rank, world_size=count, timeout=PATIENCE)
    try:
        yield Processes(rank=rank, count=count)
    finally:
        dist.destroy_process_group()
