"""One camera contract on both back ends, and a camera as a sensor, against geometry worked out by hand."""

from __future__ import annotations

import functools
import math

import mujoco
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fermo.envs.core.backend import Backend, BackendError, make_backend
from fermo.envs.core.memory import Memory, same_addresses
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Simulation, Task
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.rendering.camera import Camera, make_camera
from fermo.envs.rendering.camera_sensor import CameraSensorConfig, with_camera
from fermo.errors import FermoError
from fermo.signal import PlantSpec, Signal
from tests.envs.no_sync import no_sync

# "above" sees the floor and the ball alone; "side" sees one of each kind of geom.
SCENE = """
<mujoco>
  <option gravity="0 0 0"><flag contact="disable"/></option>
  <asset><mesh name="wedge" vertex="0 0 0  0.4 0 0  0 0.4 0  0 0 0.4"/></asset>
  <worldbody>
    <light type="directional" dir="0 0 -1" castshadow="false"/>
    <camera name="above" pos="0 0 3" fovy="50"/>
    <camera name="side" pos="3 -4 2" xyaxes="0.8 0.6 0 -0.24 0.32 0.9" fovy="45"/>
    <camera name="up" pos="0 0 4" euler="180 0 0"/>
    <geom name="floor" type="plane" size="0 0 1" rgba="0.2 0.4 0.8 1"/>
    <geom name="collision" type="sphere" size="0.6" group="3"/>
    <geom name="box" type="box" size="0.2 0.3 0.2" pos="2 0 0.3" euler="0 20 30"/>
    <geom name="capsule" type="capsule" size="0.15 0.3" pos="2.2 1 0.4" euler="40 10 0"/>
    <geom name="cylinder" type="cylinder" size="0.2 0.2" pos="1.2 -1.9 0.4" euler="60 0 10"/>
    <geom name="ellipsoid" type="ellipsoid" size="0.3 0.2 0.1" pos="2.5 -1 0.4" euler="10 20 30"/>
    <geom name="wedge" type="mesh" mesh="wedge" pos="1.2 1.8 0.3" euler="0 0 200"/>
    <body name="ball" pos="0 0 0.5"><joint type="slide" axis="0 0 1"/><joint type="slide" axis="1 0 0"/>
      <geom name="ball" type="sphere" size="0.5" rgba="0.8 0.2 0.2 1"/></body>
  </worldbody>
</mujoco>
"""
FLOOR, BALL = 0, 7
WIDTH, HEIGHT = 17, 13
ENGINES = ("cpu", "warp")
HEIGHTS = torch.tensor([0.0, 0.3, 1.5])  # [m], of the ball above its start, one a world
SIDE = torch.tensor([0.0, 0.2, 60.0])  # [m]


@functools.cache
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(SCENE)


def engine(name: str, num_worlds: int = 3, compiled: mujoco.MjModel | None = None) -> Backend:
    if name == "warp":
        pytest.importorskip("mujoco_warp")
    options = {"device": "cpu"} if name == "warp" else {"num_threads": 1}
    return make_backend(name, compiled or model(), num_worlds, **options)


def placed(name: str) -> Backend:
    backend = engine(name)
    everyone = torch.ones(3, dtype=torch.bool)
    backend.reset(everyone, torch.stack([HEIGHTS, SIDE], dim=1).double(), torch.zeros(3, 2))
    backend.forward(everyone)
    return backend


@functools.cache
def camera(name: str, which: str = "side") -> Camera:
    return make_camera(placed(name), which, WIDTH, HEIGHT)


def slopes() -> tuple[Tensor, Tensor]:
    """x and y of each pixel's ray at depth 1, for a vertical field of view of 50 degrees."""
    tangent = math.tan(math.radians(25.0))
    x = (2 * (torch.arange(WIDTH) + 0.5) / WIDTH - 1) * tangent * WIDTH / HEIGHT
    y = (1 - 2 * (torch.arange(HEIGHT) + 0.5) / HEIGHT) * tangent
    down, across = torch.meshgrid(y.double(), x.double(), indexing="ij")
    return across, down


@pytest.mark.parametrize("name", ENGINES)
def test_depth_and_segmentation_equal_plane_and_sphere(name: str) -> None:
    """The point at depth z is z (x, y, -1) from the camera at height 3; on the ball, a z^2 + b z + c = 0.

    For a ray that grazes the ball the discriminant vanishes: rounding turns a hit into a miss, and its root into 1e-3
    of depth. So pixels whose discriminant is below 1e-3 are left out.
    """
    depth, geom = camera(name, "above").depth_and_segmentation()
    assert (depth.dtype, geom.dtype) == (torch.float32, torch.int32)
    assert depth.shape == geom.shape == (3, HEIGHT, WIDTH)
    x, y = slopes()
    for world in range(3):
        above = 2.5 - float(HEIGHTS[world])
        a, b, c = x**2 + y**2 + 1, -2 * (x * SIDE[world] + above), SIDE[world] ** 2 + above**2 - 0.25
        discriminant = b**2 - 4 * a * c
        clear = discriminant.abs() > 1e-3
        nearest = torch.where(discriminant > 0, (-b - discriminant.clamp(min=0).sqrt()) / (2 * a), 3.0).float()
        torch.testing.assert_close(depth[world][clear], nearest[clear], rtol=2e-5, atol=0)
        expected = torch.where(discriminant > 0, BALL, FLOOR).int()
        assert torch.equal(geom[world][clear], expected[clear])


def test_engines_agree_on_every_kind_of_geom() -> None:
    """Equal but where a neighbouring pixel shows another geom: there, single precision may choose either."""
    (depth, geom), (other_depth, other_geom) = (camera(name).depth_and_segmentation() for name in ENGINES)
    assert set(range(2, 8)) <= set(geom.unique().tolist())
    same = torch.nn.functional.pad(geom[:, None].float(), (1, 1, 1, 1), mode="replicate")
    high = torch.nn.functional.max_pool2d(same, 3, stride=1)[:, 0]
    low = -torch.nn.functional.max_pool2d(-same, 3, stride=1)[:, 0]
    inner = high == low
    assert inner.float().mean() > 0.4
    assert torch.equal(geom[inner], other_geom[inner])
    torch.testing.assert_close(depth[inner], other_depth[inner], rtol=1e-4, atol=0)
    assert (geom != other_geom).float().mean() < 0.02


@pytest.mark.parametrize("name", ENGINES)
def test_nothing_is_infinitely_far(name: str) -> None:
    depth, geom = camera(name, "up").depth_and_segmentation()
    assert torch.isinf(depth).all() and (geom == -1).all()


@pytest.mark.parametrize("name", ENGINES)
def test_rows_outside_the_mask_hold_nothing(name: str) -> None:
    look, mask = camera(name), torch.tensor([False, True, False])
    (depth, geom), picture = look.depth_and_segmentation(mask), look.rgb(mask)
    whole, whole_geom = look.depth_and_segmentation()
    assert torch.isinf(depth[[0, 2]]).all() and (geom[[0, 2]] == -1).all() and (picture[[0, 2]] == 0).all()
    assert torch.equal(depth[1], whole[1]) and torch.equal(geom[1], whole_geom[1])
    assert torch.equal(picture[1], look.rgb()[1])
    nobody = torch.zeros(3, dtype=torch.bool)
    assert torch.isinf(look.depth_and_segmentation(nobody)[0]).all() and not look.rgb(nobody).any()


@pytest.mark.parametrize("name", ENGINES)
def test_colours_are_red_green_blue(name: str) -> None:
    picture = camera(name, "above").rgb()
    assert picture.dtype == torch.uint8 and picture.shape == (3, HEIGHT, WIDTH, 3)
    floor, ball = picture[0, 0, 0].int(), picture[0, HEIGHT // 2, WIDTH // 2].int()
    assert ball[0] > 1.2 * ball[1] and (ball[1] - ball[2]).abs() <= 1  # rgba 0.8 0.2 0.2
    assert floor[2] > 1.2 * floor[1] > 1.2 * 1.2 * floor[0] > 0  # rgba 0.2 0.4 0.8


@pytest.mark.parametrize("name", ENGINES)
def test_a_world_is_seen_with_its_own_sizes_and_from_where_its_camera_stands(name: str) -> None:
    backend = placed(name)
    look = make_camera(backend, "above", WIDTH, HEIGHT)
    size = backend.get_param("geom_size")
    size[1, BALL] = 0.25
    position = backend.get_param("cam_pos")
    position[2, 0, 2] += 1.0
    backend.set_params({"geom_size": size, "cam_pos": position})
    backend.forward(torch.ones(3, dtype=torch.bool))
    depth = look.depth_and_segmentation()[0]
    smaller = 3.0 - (0.5 + 0.3 + math.sqrt(0.25**2 - 0.2**2))  # the axis passes 0.2 m beside its centre
    middle = depth[:, HEIGHT // 2, WIDTH // 2]
    torch.testing.assert_close(middle, torch.tensor([2.0, smaller, 4.0]), rtol=1e-5, atol=0)


def test_no_picture_on_a_device_waits_for_it() -> None:
    look = camera("warp")
    with no_sync():
        look.depth_and_segmentation(torch.ones(3, dtype=torch.bool))
        look.rgb()


@pytest.mark.parametrize("name", ENGINES)
def test_unknown_camera_suggests_the_nearest(name: str) -> None:
    with pytest.raises(FermoError, match="did you mean 'above'"):
        make_camera(engine(name), "abov")


def test_the_free_camera_is_for_the_cpu() -> None:
    bare = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
    assert make_camera(engine("cpu", 1, bare), width=5, height=5).depth_and_segmentation()[1][0, 2, 2] == 0
    with pytest.raises(BackendError, match="this one has none: add one"):
        make_camera(engine("warp", 1, bare))


class RisingBall(Task):
    """The ball rises at a metre a second under the camera above it, whatever is commanded."""

    name, substeps, max_steps = "test/RisingBall", 5, 1000

    def __init__(self) -> None:
        self.config, self.model = None, model()
        height = Signal.uniform(name="height", shape=(1,), unit="m")
        nothing = Signal.uniform(name="nothing", shape=(0,), unit="1")
        self.spec = PlantSpec(observations=(height,), commands=(nothing,), rate_hz=100.0)

    def initial_state(self, random: WorldRandom) -> tuple[Tensor, Tensor]:
        qvel = torch.zeros(len(random.worlds), 2, dtype=torch.float64)
        qvel[:, 0] = 1.0
        return torch.zeros_like(qvel), qvel

    def observation(self, sim: Simulation) -> dict[str, Tensor]:
        return {"height": sim["qpos"][:, :1]}

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        return {"none": torch.zeros(len(sim.steps))}


def seeing(rate_hz: float, latency_s: float) -> VectorEnv:
    config = CameraSensorConfig(camera="above", width=1, height=1, rate_hz=rate_hz, latency_s=latency_s, max_depth=2.5)
    task = with_camera(RisingBall(), config)
    assert task.control_dt == pytest.approx(0.01)
    return VectorEnv(task, 2, autoreset_mode=AutoresetMode.DISABLED, backend_options={"num_threads": 1})


@settings(max_examples=25, deadline=None)
@given(every=st.integers(1, 5), delay=st.integers(0, 7), restart=st.integers(1, 12))
def test_pictures_come_at_their_rate_and_late(every: int, delay: int, restart: int) -> None:
    """After s steps the picture of step c = e floor((s - d) / e) is there, at depth 2 - c dt; at first that of step 0.

    A world that begins anew begins its pictures anew, the other goes on.
    """
    env = seeing(100.0 / every, 0.01 * delay)
    obs, _ = env.reset()
    steps = torch.zeros(2, dtype=torch.int64)
    for step in range(18):
        if step == restart:
            obs, _ = env.reset(options={"reset_mask": torch.tensor([False, True])})
            steps[1] = 0
        captured = (steps - delay).clamp(min=0) // every * every
        torch.testing.assert_close(obs[:, 1], 2.0 - 0.01 * captured, atol=1e-5, rtol=0)
        obs, *_ = env.step(torch.zeros(2, 0))
        steps += 1


def test_a_sensor_reads_what_is_far_as_its_range() -> None:
    config = CameraSensorConfig(camera="above", width=9, height=7, max_depth=2.5)
    task = with_camera(RisingBall(), config, signal="depth")
    env = VectorEnv(task, 2, autoreset_mode=AutoresetMode.DISABLED)
    obs, _ = env.reset()
    picture = obs[:, task.spec.observation_slices()["depth"]].unflatten(1, (7, 9))
    assert torch.equal(picture, env.sim.sensors["depth"].picture)
    assert (picture[:, 0, 0] == 2.5).all() and torch.allclose(picture[:, 3, 4], torch.tensor(2.0))
    assert env.single_observation_space.contains(obs[0].numpy())
    assert isinstance(task, RisingBall)
    assert len(RisingBall().spec.observations) == 1


def test_two_cameras_of_both_kinds_fit_one_task() -> None:
    task = with_camera(RisingBall(), CameraSensorConfig(camera="above", width=3, height=2))
    task = with_camera(task, CameraSensorConfig(camera="side", picture="rgb", width=4, height=3), signal="colour")
    assert [signal.shape for signal in task.spec.observations] == [(1,), (2, 3), (3, 4, 3)]
    obs, _ = VectorEnv(task, 1).reset()
    colour = obs[0, task.spec.observation_slices()["colour"]]
    assert 0.0 <= colour.min() < colour.max() <= 1.0


def test_a_task_with_a_camera_may_be_captured() -> None:
    """The whole step, over restarts: nothing waits, no memory moves, and the pictures are those of the CPU."""
    pytest.importorskip("mujoco_warp")
    config = CameraSensorConfig(camera="above", width=WIDTH, height=HEIGHT, rate_hz=50.0, latency_s=0.01)
    task = with_camera(RisingBall(), config)
    task.max_steps = 3
    envs = [
        VectorEnv(task, 2, backend=name, autoreset_mode=AutoresetMode.SAME_STEP, captured=name == "warp",
                  backend_options=options)
        for name, options in (("warp", {"device": "cpu"}), ("cpu", {"num_threads": 1}))
    ]  # fmt: skip
    action = torch.zeros(2, 0)
    for env in envs:
        env.reset()
        env.step(action)
    memory = Memory(envs[0].roots())
    for _ in range(6):
        with no_sync():
            seen = envs[0].eager_step(action)[0]
            memory.settle()
        expected = envs[1].step(action)[0]
        away = (seen - expected).abs() < 1e-4
        assert away.float().mean() > 0.95 and away[:, 0].all()
    assert same_addresses(memory)
    assert {"sensors.camera.picture", "sensors.camera._slots"} <= set(memory.slots)
    assert not any("backend" in path for path in memory.slots)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"picture": "heat"}, "'depth' or 'rgb'"),
        ({"rate_hz": 0.0}, "rate_hz > 0"),
        ({"rate_hz": math.nan}, "rate_hz > 0"),
        ({"latency_s": -0.1}, "latency_s >= 0"),
        ({"max_depth": 0.0}, "max_depth > 0"),
        ({"rate_hz": 30.0}, "choose 100, 50, 33.3333, 25, ... Hz"),
        ({"rate_hz": 200.0}, "choose 100"),
        ({"width": 0}, "at least one pixel"),
        ({"camera": "abov"}, "did you mean 'above'"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(wrong: dict, why: str) -> None:
    with pytest.raises(FermoError, match=why):
        VectorEnv(with_camera(RisingBall(), CameraSensorConfig(**wrong)), 1)
