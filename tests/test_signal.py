"""Signals and plants: layout, JSON, and every reason why a policy does not fit a plant."""

import json
import math
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fermo.signal import PlantSpec, Signal

NAMES = st.text("abcdefgh_", min_size=1, max_size=8)
SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)
BOUNDS = (
    st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False))
    .map(sorted)
    .filter(lambda bound: bound[0] < math.inf and bound[1] > -math.inf)
)


@st.composite
def signals(draw: st.DrawFn, name: str) -> Signal:
    shape = draw(SHAPES)
    bounds = [draw(BOUNDS) for _ in range(math.prod(shape))]
    return Signal(
        name=name,
        shape=shape,
        unit=draw(st.sampled_from(["rad", "m", "1"])),
        low=tuple(low for low, _ in bounds),
        high=tuple(high for _, high in bounds),
        device=draw(NAMES),
        description=draw(st.text(max_size=8)),
    )


@st.composite
def plants(draw: st.DrawFn) -> PlantSpec:
    names = draw(st.lists(NAMES, unique=True, min_size=1, max_size=5))
    members = tuple(draw(signals(name)) for name in names)
    split = draw(st.integers(0, len(names)))
    return PlantSpec(observations=members[:split], commands=members[split:], rate_hz=draw(st.floats(0.1, 1e4)))


@settings(max_examples=60, deadline=None)
@given(spec=plants())
def test_json_round_trip_keeps_everything(spec: PlantSpec) -> None:
    text = json.dumps(spec.to_json(), allow_nan=False)
    assert PlantSpec.from_json(json.loads(text)) == spec


@settings(max_examples=60, deadline=None)
@given(spec=plants())
def test_slices_tile_the_flat_vector_in_order(spec: PlantSpec) -> None:
    for members, slices, size in (
        (spec.observations, spec.observation_slices(), spec.observation_size),
        (spec.commands, spec.command_slices(), spec.command_size),
    ):
        assert list(slices) == [signal.name for signal in members]
        assert [slices[signal.name].stop - slices[signal.name].start for signal in members] == [s.size for s in members]
        covered = [index for part in slices.values() for index in range(part.start, part.stop)]
        assert covered == list(range(size))


@settings(max_examples=30, deadline=None)
@given(spec=plants())
def test_a_plant_fits_itself(spec: PlantSpec) -> None:
    assert spec.mismatches(spec) == []


ANGLE = Signal.uniform(name="angle", shape=(2,), unit="rad", low=-1.0, high=1.0)
SPEED = Signal.uniform(name="speed", shape=(2,), unit="rad/s")
GOAL = Signal.uniform(name="goal", shape=(2,), unit="rad", low=-1.0, high=1.0)
POLICY = PlantSpec(observations=(ANGLE,), commands=(GOAL,), rate_hz=25.0)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"observations": (SPEED,)}, "observation 'angle' is missing (the plant has speed)"),
        ({"observations": ()}, "observation 'angle' is missing (the plant has none)"),
        (
            {"observations": (Signal.uniform(name="angle", shape=(3,), unit="rad"),)},
            "observation 'angle' has shape (3,), the policy needs (2,)",
        ),
        ({"observations": (replace(ANGLE, unit="deg"),)}, "observation 'angle' is in deg, the policy needs rad"),
        ({"commands": (replace(GOAL, unit="N m"),)}, "command 'goal' is in N m, the policy needs rad"),
        ({"commands": (GOAL, replace(GOAL, name="grip"))}, "command 'grip' is one the policy does not give"),
        ({"rate_hz": 50.0}, "the plant runs at 50 Hz, the policy at 25 Hz"),
    ],
)
def test_each_mismatch_is_named(changes: dict, problem: str) -> None:
    assert POLICY.mismatches(replace(POLICY, **changes)) == [problem]


def test_all_mismatches_are_listed_at_once_and_extra_observations_are_welcome() -> None:
    plant = PlantSpec(observations=(SPEED,), commands=(replace(GOAL, name="grip"),), rate_hz=10.0)
    assert len(POLICY.mismatches(plant)) == 4
    assert POLICY.mismatches(replace(POLICY, observations=(SPEED, ANGLE))) == []


def test_signals_and_plants_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"'x' has shape \(2,\) \(2 elements\), but 1 lower and 2 upper"):
        Signal(name="x", shape=(2,), unit="m", low=(0.0,), high=(1.0, 1.0))
    for low, high in ((1.0, 0.0), (math.nan, 1.0), (0.0, math.nan), (math.inf, math.inf), (-math.inf, -math.inf)):
        with pytest.raises(ValueError, match="'x' has an empty bound"):
            Signal.uniform(name="x", shape=(1,), unit="m", low=low, high=high)
    with pytest.raises(ValueError, match="must be unique in a plant; repeated: angle"):
        PlantSpec(observations=(ANGLE,), commands=(replace(GOAL, name="angle"),), rate_hz=25.0)
    for rate in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="rate_hz must be positive"):
            replace(POLICY, rate_hz=rate)
