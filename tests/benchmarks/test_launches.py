"""A step asks the device for the same operations however many worlds there are."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("mujoco_warp")
import warp as wp

from fermo.benchmarks.launches import _counting, count_launches
from fermo.envs.registry import make_task


def test_views_and_allocations_are_no_launches() -> None:
    value, array = torch.ones(4, 3), wp.zeros(3, dtype=float, device="cpu")
    with _counting() as (warp, tensor):
        (value[1:].reshape(-1).view(3, 3).T + 1).add_(2)
        torch.empty(5)
        array.fill_(2.0)
        wp.copy(array, array)
    assert (warp.count, tensor.count) == (2, 2)


@pytest.mark.parametrize("task", ["SO101-PickCube", "Hopper"])
def test_launches_do_not_depend_on_the_number_of_worlds(task: str) -> None:
    few, many = (count_launches(make_task(task), worlds) for worlds in (1, 7))
    assert few == many
    assert few.warp > 100 and few.tensor < few.warp
