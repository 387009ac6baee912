"""One CUDA graph of torch's operations and Warp's kernels together.

torch captures and owns the graph, on a stream of its own, and its caching allocator keeps the tensors made inside. Warp
launches on the same stream and is told of the capture (``capture_begin(external=True)``): otherwise the solver's loop
(``wp.capture_while``) would wait for the device instead of becoming a conditional node of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
import warp as wp

Result = TypeVar("Result")

_STREAMS: dict[tuple[int, int], wp.Stream] = {}
"""Warp finds the capture in progress by stream *object*, so each of torch's streams has one for good."""


@contextmanager
def launching(device: torch.device) -> Iterator[None]:
    """Launch Warp's kernels on the stream that torch uses now, so that the operations of both are ordered."""
    if device.type != "cuda":
        with wp.ScopedDevice("cpu"):
            yield
        return
    # No waiting for Warp's previous stream: nothing was launched there, and a capture may not depend on it.
    with wp.ScopedStream(_warp_stream(torch.cuda.current_stream(device)), sync_enter=False):
        yield


def capture(work: Callable[[], Result], device: torch.device,
            version: Callable[[], Hashable] = lambda: None) -> Captured[Result]:  # fmt: skip
    """`work` as one CUDA graph; see `Captured`."""
    return Captured(work, device, version)


class Captured(Generic[Result]):
    """Call it as `work`; from the second call on, a CUDA graph of `work` runs instead. Off CUDA, always `work`.

    The first call runs `work` as it is: that compiles kernels and allocates what is allocated lazily, neither of which
    a capture may do. The second call captures, which executes nothing, and launches what was captured. `work` must read
    and write tensors in place, wait for nothing (``tests/envs/no_sync.py`` proves that on any machine), and take every
    Python number as a constant of the graph. What it returns is overwritten by the next call.

    Called while another capture is in progress, it becomes part of that one.

    Args:
        work: What to capture.
        device: Where it runs.
        version: When its value changes the graph is stale, and the next two calls begin anew.
    """

    def __init__(self, work: Callable[[], Result], device: torch.device, version: Callable[[], Hashable]) -> None:
        self._work, self._device, self._version = work, device, version
        self._warm_version: Hashable = _NEVER
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Any = None

    def __call__(self) -> Result:
        """Run `work`, or its graph."""
        if self._device.type != "cuda" or torch.cuda.is_current_stream_capturing():
            return self._work()
        if self._version() != self._warm_version:
            self._graph = self._result = self._kernels = None
            result = self._work()
            self._warm_version = self._version()  # the first run itself may replace arrays
            return result
        if self._graph is None:
            self._record()
        assert self._graph is not None
        self._graph.replay()
        return self._result

    def _record(self) -> None:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(self._device)
        warp_stream = _warp_stream(stream)
        # Another thread may go on using CUDA meanwhile, hence "thread_local"; Warp assumes the same.
        with (
            wp.ScopedStream(warp_stream, sync_enter=False),
            torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
        ):
            wp.capture_begin(stream=warp_stream, force_module_load=False, external=True)
            try:
                self._result = self._work()
            finally:
                self._kernels = wp.capture_end(stream=warp_stream)  # keeps the kernels' modules loaded
        self._graph = graph


_NEVER = object()


def _warp_stream(stream: torch.cuda.Stream) -> wp.Stream:
    key = (stream.device_index, stream.cuda_stream)
    if key not in _STREAMS:
        _STREAMS[key] = wp.stream_from_torch(stream)
    return _STREAMS[key]
