"""Lipschitz bounds of one network by every method: how tight, how fast, how much memory."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fermo.policies.certificates.bounds import eclipse_fast, liplt, product
from fermo.policies.certificates.certificate import LIPSDP, lipsdp
from fermo.policies.certificates.check_certificate import ELEMENTWISE, PRODUCT, Array, proved_bound
from fermo.policies.certificates.falsifier import steepest_slope
from fermo.policies.certificates.lipsdp import DEFAULT_SEARCH
from fermo.policies.lipschitz_bc.network import FixedBound
from fermo.policies.lipschitz_bc.sandwich import SandwichMlp
from fermo.policies.network import mlp
from fermo.training.demos.dataset import DEMONSTRATORS
from fermo.training.demos.record import record_episodes
from fermo.training.reproduce.registry import Number

FOUND = "steepest slope found"
_CART_POLE = "fermo/CartPole-v0"
REPEATS = 10  # of each timing; the median is reported
RESTARTS, STEPS = 256, 200  # of the search for a steep slope


def random_network(sizes: tuple[int, ...], activation: str, seed: int) -> nn.Sequential:
    """A perceptron with normal weights of variance ``1 / fan_in`` and small normal biases, float64."""
    generator = torch.Generator().manual_seed(seed)
    network = mlp(sizes, activation, generator).double()
    with torch.no_grad():
        for layer in _linear(network):
            layer.weight.normal_(0.0, 1 / math.sqrt(layer.in_features), generator=generator)
            layer.bias.normal_(0.0, 0.3, generator=generator)
    return network


def trained_network(sizes: tuple[int, ...], activation: str, steps: int, seed: int) -> nn.Sequential:
    """A perceptron fitted by Adam to a smooth teacher, a sum of sines of random projections, float64."""
    generator = torch.Generator().manual_seed(seed)
    network = mlp(sizes, activation, generator)
    first = 2 / math.sqrt(sizes[0]) * torch.randn(sizes[0], 16, generator=generator)
    last = torch.randn(16, sizes[-1], generator=generator) / 4
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        inputs = torch.randn(256, sizes[0], generator=generator)
        loss = F.mse_loss(network(inputs), torch.sin(inputs @ first) @ last)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.double()


def cart_pole_clone(alpha: float, steps: int, seed: int) -> tuple[nn.Sequential, torch.Tensor]:
    """A 4-64-64-1 sandwich that clones CartPole's regulator under ``||pi(x) - pi(y)|| <= alpha ||x - y||``, SI units.

    Returns:
        The plain perceptron, and the observations it was fitted to, shape ``(n, 4)``; both float64.
    """
    expert = DEMONSTRATORS[_CART_POLE]
    task, act = expert.make()
    episodes = record_episodes(task, act, episodes=32, seed=seed, disturbance=expert.disturbance)
    states, forces = (part.flatten(0, 1).float() for part in (episodes.observations, episodes.actions))
    generator = torch.Generator().manual_seed(seed)
    network = SandwichMlp((states.shape[1], 64, 64, forces.shape[1]), "relu", FixedBound(alpha), generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        drawn = torch.randint(len(states), (512,), generator=generator)
        loss = F.mse_loss(network(states[drawn]), forces[drawn])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.folded().double(), states.double()


def compare(network: nn.Sequential, activation: str, *, seed: int,
            points: torch.Tensor | None = None) -> dict[str, Number]:  # fmt: skip
    """Each method's bound (unit 1), median time [s] and peak of allocated memory [MB], and the steepest slope found.

    LipSDP's figures include proving the bound; ``check`` is that proof alone, from given multipliers.

    Args:
        network: Linear layers with the activation between them.
        activation: Its name.
        seed: Of the search.
        points: Where it starts ``(n, inputs)``; normal ones when None.
    """
    weights = [layer.weight.detach().double().numpy() for layer in _linear(network)]
    base = np.zeros((len(weights[-1]), weights[0].shape[1]))

    def multipliers() -> list[Array]:
        return lipsdp(weights, base, activation, DEFAULT_SEARCH)[0]

    proof = multipliers()
    methods: dict[str, Callable[[], float]] = {
        PRODUCT: lambda: product(weights, activation)[0],
        LIPSDP: lambda: proved_bound(weights, base, activation, multipliers()),
        "check": lambda: proved_bound(weights, base, activation, proof),
    }
    if activation in ELEMENTWISE:
        methods |= {"LipLT": lambda: liplt(weights)[0], "ECLipsE-Fast": lambda: eclipse_fast(weights)[0]}
    numbers = {name: number for method in methods for name, number in _measured(method, methods[method]).items()}
    del numbers["check"]  # LipSDP's bound again
    generator = torch.Generator().manual_seed(seed)
    if points is None:
        points = torch.randn(RESTARTS, weights[0].shape[1], generator=generator, dtype=torch.float64)
    return numbers | _search(network, points, generator)


def _measured(name: str, method: Callable[[], float]) -> dict[str, Number]:
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        method()
        seconds.append(time.perf_counter() - begun)
    tracemalloc.start()  # slows what it watches: not while timing
    bound = method()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        name: Number(value=bound),
        f"{name}, time": Number(value=median(seconds), unit="s", trials=REPEATS),
        f"{name}, memory": Number(value=peak / 1e6, unit="MB"),
    }


def _search(network: nn.Sequential, points: torch.Tensor, generator: torch.Generator) -> dict[str, Number]:
    begun = time.perf_counter()
    found = steepest_slope(network.requires_grad_(False), points, steps=STEPS, generator=generator)
    took = time.perf_counter() - begun
    return {FOUND: Number(value=found, trials=len(points)), f"{FOUND}, time": Number(value=took, unit="s")}


def _linear(network: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in network if isinstance(layer, nn.Linear)]
