"""Proof, on a machine without a GPU, that code waits for no tensor's value and copies nothing from the host.

Inside a CUDA graph neither is possible; on the CPU both pass unnoticed. `no_sync` makes them errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fermo.envs.core import host

aten = torch.ops.aten

READS = {aten._local_scalar_dense, aten.item, aten.is_nonzero, aten.equal, aten.nonzero, aten.nonzero_static,
         aten.masked_select, aten.unique_dim, aten._unique2, aten.unique_consecutive, aten.bincount}  # fmt: skip
"""Operations that need a value, or a size that depends on values, on the host."""
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index}
HOST = {Tensor.cpu, Tensor.numpy, Tensor.tolist, Tensor.item, Tensor.__bool__, Tensor.__int__, Tensor.__float__,
        Tensor.__index__, Tensor.__array__, torch.tensor, torch.as_tensor, torch.from_numpy, torch.asarray}  # fmt: skip
"""Functions that reach for the host, or make a tensor from what lies there."""


class SynchronisationError(AssertionError):
    """Something waited for the device."""


class _NoReads(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        if packet in READS or (packet is aten.repeat_interleave and func._overloadname != "self_int"):
            raise SynchronisationError(f"{func} waits for a value")
        if packet in INDEXED and any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
            raise SynchronisationError(f"{func} with a mask waits for how many entries it holds; use torch.where")
        return func(*args, **(kwargs or {}))


class _NoHost(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        already = func in (torch.as_tensor, torch.asarray) and isinstance(args[0], Tensor)
        if func in HOST and not already:
            raise SynchronisationError(f"{getattr(func, '__qualname__', func)} goes through the host")
        return func(*args, **(kwargs or {}))


@contextmanager
def no_sync() -> Iterator[None]:
    """Raise `SynchronisationError` wherever the code inside could not be part of a CUDA graph."""
    with ExitStack() as stack:
        try:
            import warp as wp
        except ImportError:
            pass
        else:
            for owner, name in ((wp.array, "numpy"), (wp, "synchronize"), (wp, "synchronize_device")):
                stack.enter_context(mock.patch.object(owner, name, _refuse(f"Warp's {name}")))
        stack.enter_context(mock.patch.object(host, "on_host", lambda tensor: False))  # as on a GPU
        stack.enter_context(_NoHost())
        stack.enter_context(_NoReads())
        yield


def _refuse(name: str) -> Any:
    def refuse(*_: Any, **__: Any) -> None:
        raise SynchronisationError(f"{name} waits for the device")

    return refuse
