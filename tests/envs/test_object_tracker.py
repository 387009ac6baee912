"""The tracking camera: frame rate, latency, noise, lost frames and occlusion, each against its definition."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fermo.envs.core.object_tracker import ObjectTracker, ObjectTrackerConfig, _segment_distance
from fermo.envs.core.random import WorldRandom

IDEAL: dict[str, Any] = {"position_noise": 0.0, "yaw_noise": 0.0, "dropout": 0.0}
# The camera looks down from above the object; the gripper is far away unless a test moves it.
ABOVE: dict[str, Any] = {"camera_position": (0.0, 0.0, 1.0)}
FAR = torch.tensor([[5.0, 0.0, 0.0], [5.0, 0.0, 0.1]], dtype=torch.float64)
VELOCITY = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)


def make(num=3, first=0, dt=0.04, **config):
    worlds = torch.arange(first, first + num)
    random = WorldRandom(7, worlds, torch.zeros_like(worlds))
    return ObjectTracker(ObjectTrackerConfig(**(ABOVE | config)), random, max_update_dt=dt)


def scene(num, time, gripper=FAR, yaw=0.0):
    """An object that moves on a straight line, in every world alike."""
    stamp = torch.full((num,), time, dtype=torch.float64)
    quaternion = torch.tensor([math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)], dtype=torch.float64)
    tool, wrist = (point.expand(num, 3) for point in gripper)
    return stamp, (VELOCITY * time).expand(num, 3), quaternion.expand(num, 4), tool, wrist


def started(num=3, **config):
    tracker = make(num, **config)
    tracker.reset(torch.ones(num, dtype=torch.bool), *scene(num, 0.0))
    return tracker


@pytest.mark.parametrize("dt", (0.003, 0.01, 0.04, 0.1))
@pytest.mark.parametrize(("rate", "latency"), ((30.0, 0.05), (30.0, 0.0), (60.0, 0.11), (7.0, 0.3)))
def test_the_newest_frame_older_than_the_latency_is_delivered(dt, rate, latency):
    num = 3
    tracker = started(num, dt=dt, rate_hz=rate, latency_s=latency, **IDEAL)
    phase = tracker.random.uniform("tracker phase") / rate
    for step in range(1, math.ceil(0.6 / dt) + 1):
        now = step * dt
        tracker.update(*scene(num, now))
        age = now - latency - phase
        frame = torch.floor(age * rate + 1e-6)
        captured = torch.where(frame >= 0, phase + frame / rate, 0.0)
        torch.testing.assert_close(tracker.capture_time, captured, rtol=0, atol=1e-12)
        torch.testing.assert_close(tracker.position, captured[:, None] * VELOCITY, rtol=0, atol=1e-9)
    assert (tracker.capture_time > 0).all()


def test_frames_come_at_their_rate_and_each_world_at_its_own_phase():
    tracker = started(4, dt=0.01, **IDEAL)
    stamps = [[] for _ in range(4)]
    for step in range(1, 201):
        before = tracker.sequence.clone()
        tracker.update(*scene(4, 0.01 * step))
        for world in torch.nonzero(tracker.sequence > before).flatten().tolist():
            stamps[world].append(float(tracker.capture_time[world]))
    for row in stamps:
        np.testing.assert_allclose(np.diff(row), 1 / 30, atol=1e-12)
        assert len(row) == pytest.approx(2.0 * 30, abs=3)
    assert len({row[0] for row in stamps}) == 4


def test_noise_has_the_stated_deviation_and_is_new_in_every_frame():
    num, yaw = 4000, 0.3
    tracker = make(num, dropout=0.0, position_noise=0.004, yaw_noise=0.03)
    tracker.reset(torch.ones(num, dtype=torch.bool), *scene(num, 0.0, yaw=yaw))
    first = tracker.position.clone()
    for step in range(1, 5):
        tracker.update(*scene(num, 0.04 * step, yaw=yaw))
    error = tracker.position - tracker.capture_time[:, None] * VELOCITY
    angle = torch.atan2(tracker.heading[:, 1], tracker.heading[:, 0]) / 4 - yaw
    torch.testing.assert_close(tracker.heading.norm(dim=1), torch.ones(num, dtype=torch.float64))
    for sample, deviation in ((error, 0.004), (first, 0.004), (angle, 0.03)):
        np.testing.assert_allclose(sample.std(dim=0).numpy(), deviation, rtol=0.05)
        assert (sample.mean(dim=0).abs() < 4 * deviation / math.sqrt(num)).all()
    assert abs(np.corrcoef(first[:, 0], error[:, 0])[0, 1]) < 4 / math.sqrt(num)


def test_a_lost_frame_leaves_the_last_value():
    num, loss = 300, 0.4
    tracker = started(num, dt=1 / 30, latency_s=0.0, **(IDEAL | {"dropout": loss}))
    news = []
    for step in range(1, 61):
        before, sequence = tracker.position.clone(), tracker.sequence.clone()
        tracker.update(*scene(num, step / 30))
        held = tracker.sequence == sequence
        assert torch.equal(tracker.position[held], before[held])
        news.append(float((~held).double().mean()))
    assert np.mean(news) == pytest.approx(1 - loss, abs=4 * math.sqrt(loss * (1 - loss) / (60 * num)))


def test_a_gripper_in_the_line_of_sight_hides_the_object_until_it_leaves():
    tracker = started(2, latency_s=0.0, **IDEAL)
    camera = torch.tensor(ABOVE["camera_position"], dtype=torch.float64)
    above = torch.stack([torch.lerp(0.25 * VELOCITY, camera, part) for part in (0.3, 0.5)])
    for step in range(1, 4):
        tracker.update(*scene(2, 0.04 * step))
    # The first frame of this update may still see the gripper on its way.
    tracker.update(*scene(2, 0.16, above))
    before, sequence = tracker.position.clone(), tracker.sequence.clone()
    for step in range(5, 10):
        tracker.update(*scene(2, 0.04 * step, above))
        assert torch.equal(tracker.position, before)
    assert torch.equal(tracker.sequence, sequence)
    for step in range(10, 13):
        tracker.update(*scene(2, 0.04 * step))
    assert (tracker.sequence > sequence).all()


def sampled_distance(p0, p1, q0, q1, count=301):
    s = np.linspace(0.0, 1.0, count)[:, None]
    p, q = p0 + s * (p1 - p0), q0 + s * (q1 - q0)
    return np.linalg.norm(p[:, None] - q[None], axis=-1).min()


COORDINATE = st.integers(-8, 8).map(lambda k: k / 8)
POINT = st.tuples(COORDINATE, COORDINATE, COORDINATE)


@settings(max_examples=80, deadline=None)
@given(st.tuples(POINT, POINT, POINT, POINT))
def test_segment_distance_agrees_with_sampling(points):
    p0, p1, q0, q1 = (torch.tensor([point], dtype=torch.float64) for point in points)
    distance = float(_segment_distance(p0, p1, q0, q1))
    a, b, c, d = (np.array(point) for point in points)
    sampled = sampled_distance(a, b, c, d)
    spacing = (float((p1 - p0).norm()) + float((q1 - q0).norm())) / 300
    assert distance <= sampled + 1e-9
    assert distance >= sampled - spacing


def test_occlusion_is_the_capsule_around_the_gripper():
    num, generator = 400, np.random.default_rng(0)
    config = ObjectTrackerConfig(**ABOVE)
    fast: dict[str, Any] = IDEAL | {"latency_s": 0.0, "rate_hz": 1e3}
    tracker = make(num, dt=2e-3, **fast)
    position = torch.from_numpy(generator.uniform(-0.1, 0.1, (num, 3)))
    tool = position + torch.from_numpy(generator.uniform(-0.1, 0.1, (num, 3)))
    wrist = tool + torch.from_numpy(generator.uniform(-0.1, 0.2, (num, 3)))
    quaternion = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64).expand(num, 4)
    time = torch.zeros(num, dtype=torch.float64)
    tracker.reset(torch.ones(num, dtype=torch.bool), time, position, quaternion, tool, wrist)
    tracker.update(time + 2e-3, position, quaternion, tool, wrist)
    near, far = config.occluder_span
    camera = np.array(config.camera_position)
    judged = 0
    for k in range(num):
        axis = (wrist - tool)[k].numpy()
        start = tool[k].numpy()
        distance = sampled_distance(position[k].numpy(), camera, start + near * axis, start + far * axis, 161)
        if abs(distance - config.occluder_radius) > 0.01:  # coarser than the sampling
            judged += 1
            assert bool(tracker.sequence[k] > 0) == (distance > config.occluder_radius)
    assert judged > num / 2
    assert 0.1 < float((tracker.sequence > 0).double().mean()) < 0.95


def test_a_world_is_tracked_the_same_in_a_batch_and_alone():
    together = make(4)
    alone = [make(1, first=world) for world in range(4)]
    everywhere = torch.ones(4, dtype=torch.bool)
    together.reset(everywhere, *scene(4, 0.0))
    for tracker in alone:
        tracker.reset(everywhere[:1], *scene(1, 0.0))
    for step in range(1, 30):
        together.update(*scene(4, 0.04 * step))
        for world, tracker in enumerate(alone):
            tracker.update(*scene(1, 0.04 * step))
            assert torch.equal(tracker.position[0], together.position[world])
            assert torch.equal(tracker.heading[0], together.heading[world])
            assert torch.equal(tracker.capture_time[0], together.capture_time[world])


def test_a_reset_of_some_worlds_leaves_the_others_in_flight():
    tracker, control = started(3), started(3)
    for step in range(1, 6):
        tracker.update(*scene(3, 0.04 * step))
        control.update(*scene(3, 0.04 * step))
    mask = torch.tensor([False, True, False])
    time, *rest = scene(3, 0.0)
    tracker.reset(mask, torch.where(mask, time, 0.2), *rest)
    assert tracker.sequence[1] == 0
    assert tracker.capture_time[1] == 0.0
    now, *rest = scene(3, 0.24)
    tracker.update(torch.where(mask, 0.04, now), *rest)
    control.update(now, *rest)
    assert torch.equal(tracker.position[[0, 2]], control.position[[0, 2]])
    assert torch.equal(tracker.capture_time[[0, 2]], control.capture_time[[0, 2]])


@pytest.mark.parametrize("field", ({"rate_hz": 0.0}, {"latency_s": -0.1}, {"dropout": 1.0}))
def test_an_impossible_device_is_refused(field):
    with pytest.raises(ValueError, match="rate_hz > 0"):
        ObjectTrackerConfig(**field)
