"""Sampling as one compiled function: scalings, tokens, every evaluation of the network and clipping in it.

Called one by one, the hundreds of small operations of a sample cost more than what they compute. Compiled, neighbours
become one loop; on a GPU it is then captured with its noise as one CUDA graph, and launched as one.
"""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.policies.beso.situation import Situation
from fermo.policies.windowed.world_noise import Noise

if TYPE_CHECKING:
    from fermo.policies.base import HalfPrecision
    from fermo.policies.beso.policy import BesoPolicy

MOST_EVALUATIONS = 32
"""Of the network, in one function: compilation takes time in proportion."""

_COMPILERS = ("g++", "clang++", "c++")
_WARM_UPS = 3  # calls before a CUDA graph is captured, as torch asks for


class CompiledSamplers:
    """Those of a policy, by number of worlds. A copy of the policy has none: its weights may change."""

    def __init__(self) -> None:
        self._by_worlds: dict[int, CompiledSampler] = {}

    def __bool__(self) -> bool:
        return bool(self._by_worlds)

    def __deepcopy__(self, memo: dict[int, object]) -> CompiledSamplers:
        return CompiledSamplers()

    def add(self, policy: BesoPolicy, worlds: int, *, guided: bool, half: HalfPrecision | None) -> None:
        """Compile for a number of worlds; see `Policy.compile_sampler`."""
        self._by_worlds[worlds] = CompiledSampler(policy, worlds, guided=guided, half=half)

    def chunk(self, situation: Situation, *, guided: bool) -> Tensor:
        """What `BesoPolicy.chunk_in` gives.

        Raises:
            FermoError: Nothing was compiled for so many worlds, for such a goal or for this device; compiling takes
                long, so it is never done unasked.
        """
        worlds, device = len(situation.observations), situation.observations.device
        sampler = self._by_worlds.get(worlds)
        if sampler is None:
            known = ", ".join(map(str, sorted(self._by_worlds)))
            raise FermoError(f"the sampler is compiled for {known} worlds, not for {worlds}: "
                             f"call compile_sampler({worlds}) too")  # fmt: skip
        if sampler.guided != guided:
            raise FermoError(f"the sampler was compiled with{'' if sampler.guided else 'out'} a goal that guides it, "
                             "and that has changed: call compile_sampler after set_goal")  # fmt: skip
        if sampler.device != device:
            raise FermoError(f"the sampler was compiled on {sampler.device} and is asked on {device}: "
                             "call compile_sampler after moving the policy")  # fmt: skip
        return sampler(situation)


class CompiledSampler:
    """One compiled function, for one number of worlds.

    Attributes:
        guided: Whether it evaluates the network with and without the goal.
        device: Where it runs.

    Args:
        policy: Its weights are copied, once.
        worlds: N.
        guided: Whether the policy's goal guides it now.
        half: Precision of the network; that of the weights when None.
    """

    def __init__(self, policy: BesoPolicy, worlds: int, *, guided: bool, half: HalfPrecision | None) -> None:
        self.guided, self.device = guided, next(policy.parameters()).device
        _require_compilable(policy, worlds, self.device)
        frozen = copy.deepcopy(policy).eval().requires_grad_(False)
        frozen.average = None  # the copied weights are the averaged ones already
        if half is not None:
            frozen.network = HalfNetwork(frozen.network, getattr(torch, half))  # type: ignore[assignment]
        blank = frozen.blank_situation(worlds)
        self._inputs = Situation(*(None if part is None else part.clone() for part in blank))  # type: ignore[arg-type]
        self._run = _compiled(frozen, self._inputs)

    @torch.no_grad()
    def __call__(self, situation: Situation) -> Tensor:
        """A chunk, ``(N, H, command_size)``."""
        for own, given in zip(self._inputs, situation, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        return self._run().clone()


class HalfNetwork(nn.Module):
    """A network's copy in half precision between inputs and answers of single precision."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network.to(dtype), dtype

    def forward(self, *given: Tensor | None) -> Tensor:
        """As of the network."""
        narrow = (part.to(self.dtype) if part is not None and part.is_floating_point() else part for part in given)
        return self.network(*narrow).float()


class _Chunk(nn.Module):
    """What is exported must be a module's `forward`, which for a policy is its loss."""

    def __init__(self, policy: BesoPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, situation: Situation, draws: list[Tensor]) -> Tensor:
        """The chunk that these draws of noise make, in the order in which they are asked for."""
        waiting = iter(draws)
        return self.policy.chunk_in(situation, lambda like: next(waiting))


def _require_compilable(policy: BesoPolicy, worlds: int, device: torch.device) -> None:
    if worlds < 1:
        raise FermoError(f"a sampler is compiled for at least 1 world, got {worlds}")
    evaluations = policy.objective.evaluations()
    if evaluations > MOST_EVALUATIONS:
        raise FermoError(f"a sample evaluates the network {evaluations} times, and compiling more than "
                         f"{MOST_EVALUATIONS} into one function takes too long: take fewer steps")  # fmt: skip
    if device.type == "cpu" and not any(map(shutil.which, _COMPILERS)):
        raise FermoError("compiling for the CPU needs a C++ compiler, and there is no g++ or clang++: install one "
                         "(Debian and Ubuntu: apt install g++), or do without compiling")  # fmt: skip


@torch.no_grad()
def _compiled(policy: BesoPolicy, situation: Situation) -> Callable[[], Tensor]:
    """The chunk in a situation whose values may change and whose shapes do not.

    Noise is an input: compilers do not keep to the wrap-around arithmetic of whole numbers that it is made with.
    """
    drawn: list[Tensor] = []
    policy.chunk_in(situation, _noted(policy.noise_of(situation), drawn))

    def draws() -> list[Tensor]:
        noise = policy.noise_of(situation)
        return [noise(like) for like in drawn]

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about its own internals
            graph = torch.export.export(_Chunk(policy), (situation, draws()), strict=False).module()
            run = torch.compile(graph, fullgraph=True, dynamic=False)
            run(situation, draws())
    except Exception as error:  # whatever exporter, compiler or linker raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FermoError(f"the sampler cannot be compiled here: {reason}; do without compiling") from error
    if situation.observations.device.type == "cuda":
        return _captured(lambda: run(situation, draws()))
    return lambda: run(situation, draws())


def _noted(noise: Noise, drawn: list[Tensor]) -> Noise:
    """Noise that adds what it gives to `drawn`."""

    def draw(like: Tensor) -> Tensor:
        drawn.append(noise(like))
        return drawn[-1]

    return draw


def _captured(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """`run` as one CUDA graph; its answer is overwritten by the next call."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = run()

    def replay() -> Tensor:
        graph.replay()
        return answer

    return replay
