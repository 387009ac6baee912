import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from fermo.controllers.safety_limiter import SafetyLimiter, SafetyLimits

LIMITS = SafetyLimits(low=(-1.0, -2.0), high=(1.0, 0.5), max_step=0.18, max_velocity=4.5, rate_hz=25.0)
VALUES = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=60, deadline=None)
@given(commands=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=12))
def test_output_is_always_finite_inside_the_box_and_one_step_away(commands: list[tuple[float, float]]) -> None:
    limiter = SafetyLimiter(LIMITS)
    measured = torch.tensor([[0.25, -0.25]], dtype=torch.float64)
    previous = measured
    low, high = torch.tensor(LIMITS.low), torch.tensor(LIMITS.high)
    for command in commands:
        safe, clipped = limiter.limit(torch.tensor([command], dtype=torch.float64), measured)
        assert safe.isfinite().all()
        assert ((safe >= low) & (safe <= high)).all()
        assert ((safe - previous).abs() <= LIMITS.step + 1e-12).all()
        assert torch.equal(clipped, safe != torch.tensor([command], dtype=torch.float64))
        previous = safe


def test_a_reachable_command_passes_unchanged() -> None:
    limiter = SafetyLimiter(LIMITS)
    command = torch.tensor([[0.17, -0.1]])
    safe, clipped = limiter.limit(command, torch.zeros(1, 2))
    assert torch.equal(safe, command)
    assert not clipped.any()


def test_the_tighter_of_step_and_velocity_applies() -> None:
    for max_step, expected in ((0.5, 0.02), (0.01, 0.01)):
        limits = SafetyLimits(low=(0.0,), high=(1.0,), max_step=max_step, max_velocity=2.0, rate_hz=100.0)
        assert limits.step == pytest.approx(expected)


def test_one_bad_element_rejects_the_whole_action_of_that_world_only() -> None:
    limiter = SafetyLimiter(LIMITS)
    measured = torch.zeros(3, 2)
    limiter.limit(torch.full((3, 2), 0.1), measured)
    safe, clipped = limiter.limit(torch.tensor([[math.nan, 0.2], [0.2, 0.2], [0.2, math.inf]]), measured)
    torch.testing.assert_close(safe, torch.tensor([[0.1, 0.1], [0.2, 0.2], [0.1, 0.1]]))
    assert clipped.tolist() == [[True, True], [False, False], [True, True]]
    assert limiter.rejections is not None
    assert limiter.rejections.tolist() == [1, 0, 1]
    limiter.limit(torch.tensor([[math.nan, 0.2], [math.nan, 0.2], [0.2, 0.2]]), measured)
    assert limiter.rejections.tolist() == [2, 1, 0]


def test_a_pose_outside_the_limits_is_led_back_step_by_step() -> None:
    limiter = SafetyLimiter(LIMITS)
    measured = torch.tensor([[1.3, 0.0]])
    safe, _ = limiter.limit(torch.tensor([[0.0, 0.0]]), measured)
    assert safe[0, 0].item() == pytest.approx(1.3 - LIMITS.step)


def test_reset_of_some_worlds_leaves_the_others() -> None:
    limiter = SafetyLimiter(LIMITS)
    limiter.limit(torch.full((2, 2), 0.1), torch.zeros(2, 2))
    limiter.reset(torch.tensor([True, False]), torch.full((2, 2), -0.9))
    safe, _ = limiter.limit(torch.full((2, 2), 0.1), torch.zeros(2, 2))
    torch.testing.assert_close(safe[0], torch.full((2,), -0.9 + LIMITS.step))
    torch.testing.assert_close(safe[1], torch.full((2,), 0.1))
    limiter.reset(torch.tensor([True, True]))  # start again from what is measured
    safe, _ = limiter.limit(torch.full((2, 2), 0.4), torch.full((2, 2), 0.3))
    torch.testing.assert_close(safe, torch.full((2, 2), 0.4))


def test_margin_shrinks_the_box_and_must_leave_room() -> None:
    limiter = SafetyLimiter(SafetyLimits(low=(-1.0,), high=(1.0,), margin=0.1, max_step=5.0, max_velocity=500.0))
    safe, clipped = limiter.limit(torch.tensor([[3.0]]), torch.zeros(1, 1))
    assert safe.item() == pytest.approx(0.9)
    assert clipped.all()
    with pytest.raises(ValueError, match="no room"):
        SafetyLimits(low=(-1.0,), high=(1.0,), margin=1.1)


def test_gradients_pass_where_nothing_is_clipped() -> None:
    limiter = SafetyLimiter(LIMITS)
    command = torch.tensor([[0.1, -5.0]], requires_grad=True)
    limiter.limit(command, torch.zeros(1, 2))[0].sum().backward()
    assert command.grad is not None
    assert command.grad.tolist() == [[1.0, 0.0]]
