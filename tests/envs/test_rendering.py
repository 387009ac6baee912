"""The ray-cast camera against geometry worked out by hand, and videos read back."""

from __future__ import annotations

import math

import av
import mujoco
import mujoco.batch
import numpy as np
import pytest

from fermo.envs.core.backend_cpu import CpuBackend
from fermo.envs.rendering.coarse import coarse_visuals
from fermo.envs.rendering.gl import GlRenderer, gl_starts
from fermo.envs.rendering.pinhole import find_camera
from fermo.envs.rendering.raycast import RayCastCamera, RayCastConfig
from fermo.envs.rendering.trajectory import RayCastRenderer, make_renderer, render_trajectory
from fermo.envs.rendering.video import write_mp4
from fermo.errors import FermoError

SCENE = """
<mujoco>
  <visual>
    <headlight ambient="0.2 0.2 0.2" diffuse="0 0 0" specular="0 0 0"/>
  </visual>
  <worldbody>
    <light type="directional" dir="0 0 -1" diffuse="0.5 0.5 0.5" specular="0 0 0"/>
    <camera name="above" pos="0 0 3" fovy="60"/>
    <geom name="floor" type="plane" size="10 10 1" rgba="0.2 0.4 0.8 1"/>
    <geom name="collision" type="sphere" size="0.6" group="3"/>
    <body name="ball" pos="0 0 0.5">
      <freejoint/>
      <geom name="ball" type="sphere" size="0.5" rgba="0.8 0.2 0.2 1"/>
      <camera name="on ball" pos="0 0 2" fovy="60"/>
    </body>
  </worldbody>
</mujoco>
"""
PLAIN = RayCastConfig(antialias=False, shadows=False, bounce=0.0)
WIDTH, HEIGHT = 41, 31  # odd, so that a pixel's centre lies on the optical axis


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(SCENE)


@pytest.fixture
def batch(model: mujoco.MjModel) -> mujoco.batch.Batch:
    batch = mujoco.batch.Batch(model, nsim=3, nthread=2)
    batch.bind("qpos")[1, 0] = 0.4
    batch.bind("qpos")[2, 0] = 50.0
    return batch


def test_depth_and_segmentation_equal_plane_and_sphere(batch: mujoco.batch.Batch) -> None:
    depth, geom = RayCastCamera(batch, "above", WIDTH, HEIGHT).depth_and_segmentation()
    tangent = math.tan(math.radians(30.0))
    x = (2 * (np.arange(WIDTH) + 0.5) / WIDTH - 1) * tangent * WIDTH / HEIGHT
    y = (1 - 2 * (np.arange(HEIGHT) + 0.5) / HEIGHT) * tangent
    slope_x, slope_y = np.meshgrid(x, y)  # the point at depth z is (z slope_x, z slope_y, 3 - z)
    for world, centre_x in enumerate((0.0, 0.4, 50.0)):
        a = slope_x**2 + slope_y**2 + 1
        b = -2 * (slope_x * centre_x + 2.5)
        c = centre_x**2 + 2.5**2 - 0.5**2
        discriminant = b**2 - 4 * a * c
        on_ball = discriminant > 0
        nearest = (-b - np.sqrt(np.where(on_ball, discriminant, 0.0))) / (2 * a)
        np.testing.assert_allclose(depth[world], np.where(on_ball, nearest, 3.0), rtol=1e-5)
        np.testing.assert_array_equal(geom[world], np.where(on_ball, 2, 0))


def test_nothing_hit_is_infinitely_deep_sky(model: mujoco.MjModel) -> None:
    batch = mujoco.batch.Batch(model, nsim=1)
    batch.bind("qpos")[0, :7] = (0, 0, 40, 0, 1, 0, 0)  # upside down, so the camera on the ball looks up
    camera = RayCastCamera(batch, "on ball", 8, 6, config=PLAIN)
    batch.bind("qpos")[0, 2] = 40
    depth, geom = camera.depth_and_segmentation()
    assert np.isinf(depth[:, 0]).all()
    assert (geom[:, 0] == -1).all()
    sky = camera.rgb()[0, 0]
    assert (sky[:, 2] >= sky[:, 0]).all()  # blue rather than red


def test_colour_is_albedo_times_light(batch: mujoco.batch.Batch) -> None:
    picture = RayCastCamera(batch, "above", WIDTH, HEIGHT, config=PLAIN).rgb()
    floor = (np.array([0.2, 0.4, 0.8]) * 0.7) ** 0.8 * 255  # ambient 0.2 and a light straight above, 0.5
    top = (np.array([0.8, 0.2, 0.2]) * 0.7) ** 0.8 * 255
    np.testing.assert_allclose(picture[0, 0, 0], floor, atol=1)
    np.testing.assert_allclose(picture[0, HEIGHT // 2, WIDTH // 2], top, atol=1)


def test_shadow_lies_where_the_light_is_blocked() -> None:
    """Under light at 45 degrees along x, the shadow of a sphere of radius r is an ellipse of sqrt(2) r by r."""
    model = mujoco.MjModel.from_xml_string(SCENE.replace('dir="0 0 -1"', 'dir="1 0 -1"'))
    batch = mujoco.batch.Batch(model, nsim=1)
    config = RayCastConfig(antialias=False, shadows=True, bounce=0.0)
    plain = RayCastCamera(batch, "above", WIDTH, HEIGHT, config=PLAIN)
    shaded = RayCastCamera(batch, "above", WIDTH, HEIGHT, config=config)
    _, geom = plain.depth_and_segmentation()
    darker = (shaded.rgb()[0].astype(int) < plain.rgb()[0]).all(axis=-1)
    point = 3 * plain.pinhole.directions() / -plain.pinhole.directions()[:, 2:]
    ellipse = ((point[:, 0] - 0.5) ** 2 / 2 + point[:, 1] ** 2).reshape(HEIGHT, WIDTH)
    on_floor = geom[0] == 0
    assert darker[on_floor & (ellipse < 0.48**2)].all()
    assert not darker[on_floor & (ellipse > 0.52**2)].any()
    assert darker.any()


def test_checker_on_a_plane_follows_its_texture() -> None:
    model = mujoco.MjModel.from_xml_string("""
    <mujoco><asset>
      <texture name="t" type="2d" builtin="checker" rgb1="1 1 1" rgb2="0 0 0" width="64" height="64"/>
      <material name="m" texture="t" texuniform="true" texrepeat="1 1"/>
    </asset><worldbody><camera name="above" pos="0 0 1" fovy="90"/>
      <geom type="plane" size="5 5 1" material="m" rgba="1 1 1 1"/></worldbody></mujoco>""")
    picture = RayCastCamera(mujoco.batch.Batch(model, nsim=1), "above", 80, 80, config=PLAIN).rgb()[0, ..., 0]
    bright = picture > 40
    middle = [[bright[row, column] for column in (10, 30, 50, 70)] for row in (10, 30, 50, 70)]  # half a metre each
    np.testing.assert_array_equal(middle, (np.add.outer(range(4), range(4)) + middle[0][0] + 1) % 2 == 0)


def test_antialiasing_only_touches_edges(batch: mujoco.batch.Batch) -> None:
    plain = RayCastCamera(batch, "above", 64, 48, config=PLAIN)
    smooth = RayCastCamera(batch, "above", 64, 48, config=RayCastConfig(antialias=True, shadows=False, bounce=0.0))
    before, after = plain.rgb(), smooth.rgb()
    changed = (before != after).any(axis=-1)
    assert 0 < changed[0].mean() < 0.2
    assert not changed[2].any()


def test_camera_on_a_body_moves_with_it_and_worlds_are_untouched(model: mujoco.MjModel) -> None:
    backend = CpuBackend(model, 2)
    camera = RayCastCamera(backend, "on ball", WIDTH, HEIGHT)
    backend.read("qpos")[1, 2] += 1.0
    backend.forward(backend.failed.logical_not())
    state = backend.get_state()
    depth, _ = camera.depth_and_segmentation()
    camera.rgb()
    assert (backend.get_state() == state).all()
    assert depth[0, HEIGHT // 2, WIDTH // 2] == pytest.approx(1.5)
    assert depth[1, HEIGHT // 2, WIDTH // 2] == pytest.approx(1.5)
    assert depth[1, 0, 0] == pytest.approx(3.5)  # the floor, one metre farther than in world 0
    assert depth[0, 0, 0] == pytest.approx(2.5)


def test_a_choice_of_worlds_gives_the_same_pictures(batch: mujoco.batch.Batch) -> None:
    camera = RayCastCamera(batch, "above", WIDTH, HEIGHT)
    np.testing.assert_array_equal(camera.rgb(np.array([0, 2])), camera.rgb()[[0, 2]])


def test_trajectory_is_one_picture_a_row(model: mujoco.MjModel) -> None:
    qpos = np.tile(model.qpos0, (19, 1))
    qpos[:, 0] = np.linspace(-1, 1, 19)
    frames = render_trajectory(model, qpos, camera="above", width=32, height=24)
    assert frames.shape == (19, 24, 32, 3)
    assert frames.dtype == np.uint8
    alone = render_trajectory(model, qpos[17:18], camera="above", width=32, height=24)
    np.testing.assert_array_equal(frames[17:18], alone)
    assert render_trajectory(model, qpos[:0], camera="above", width=32, height=24).shape == (0, 24, 32, 3)


@pytest.mark.parametrize("wrong", [np.zeros((4, 3)), np.zeros(7), np.full((2, 7), np.nan)])
def test_a_trajectory_that_does_not_fit_is_refused(model: mujoco.MjModel, wrong: np.ndarray) -> None:
    with pytest.raises(FermoError, match="trajectory"):
        render_trajectory(model, wrong, camera="above")


def test_unknown_camera_suggests_the_nearest(model: mujoco.MjModel) -> None:
    with pytest.raises(FermoError, match="did you mean 'above'"):
        find_camera(model, "abov", 8, 8)


def test_free_camera_sees_a_model_without_cameras() -> None:
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='0.3' pos='1 2 3'/></worldbody></mujoco>")
    _, geom = RayCastCamera(mujoco.batch.Batch(model, nsim=1), None, 33, 33).depth_and_segmentation()
    assert geom[0, 16, 16] == 0
    assert geom[0, 0, 0] == -1


def test_coarse_meshes_keep_the_joints_and_the_silhouette() -> None:
    spec = mujoco.MjSpec.from_string("""
    <mujoco><asset><mesh name="ball" builtin="sphere" params="4" scale="0.2 0.2 0.2"/></asset>
    <worldbody><camera name="above" pos="0.1 0 1" fovy="60"/>
    <body pos="0.1 0.05 0"><freejoint/><geom type="mesh" mesh="ball"/></body></worldbody></mujoco>""")
    fine, coarse = spec.compile(), coarse_visuals(spec, cell=0.04)
    assert coarse.nq == fine.nq
    assert coarse.nmeshface < fine.nmeshface / 3
    masks = [
        RayCastCamera(mujoco.batch.Batch(model, nsim=1), "above", 40, 40).depth_and_segmentation()[1] >= 0
        for model in (fine, coarse)
    ]
    assert masks[0].sum() > 50
    assert (masks[0] != masks[1]).mean() < 0.02


def test_renderer_falls_back_when_opengl_is_off(model: mujoco.MjModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "off")
    gl_starts.cache_clear()
    renderer = make_renderer(model, camera="above", width=16, height=12)
    gl_starts.cache_clear()
    assert isinstance(renderer, RayCastRenderer)
    assert next(iter(renderer.frames(model.qpos0[None]))).shape == (12, 16, 3)


@pytest.mark.skipif(not gl_starts(), reason="OpenGL does not start on this machine")
def test_opengl_and_rays_agree_where_the_ball_is(model: mujoco.MjModel) -> None:
    by_gl = next(iter(GlRenderer(model, "above", 64, 48).frames(model.qpos0[None]))).astype(int)
    by_rays = render_trajectory(model, model.qpos0[None], camera="above", width=64, height=48)[0].astype(int)
    red = [picture[..., 0] > picture[..., 2] for picture in (by_gl, by_rays)]
    assert (red[0] == red[1]).mean() > 0.97


@pytest.mark.skipif(not gl_starts(), reason="OpenGL does not start on this machine")
def test_an_opengl_renderer_outlives_an_older_one(model: mujoco.MjModel) -> None:
    renderer = GlRenderer(model, "above", 64, 48)
    before = next(iter(renderer.frames(model.qpos0[None]))).copy()
    renderer = GlRenderer(model, "above", 64, 48)
    np.testing.assert_array_equal(next(iter(renderer.frames(model.qpos0[None]))), before)


def test_web_scene_shows_what_is_drawn_and_follows_the_state(model: mujoco.MjModel) -> None:
    pytest.importorskip("viser", reason="the viewer extra is not installed")
    from fermo.envs.rendering.web import WebScene

    data = mujoco.MjData(model)
    data.qpos[:3] = (0.1, 0.2, 0.9)
    mujoco.mj_forward(model, data)
    scene = WebScene(model, port=0)
    try:
        scene.show(data)
        assert set(scene.handles) == {0, 2}  # not the collision sphere
        np.testing.assert_allclose(scene.handles[2].position, (0.1, 0.2, 0.9))
    finally:
        scene.close()


def test_video_comes_back_with_its_size_rate_and_pictures(tmp_path) -> None:
    frames = np.zeros((12, 33, 48, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[..., 0], frame[..., 2] = index * 20, 255 - index * 20
    path = write_mp4(tmp_path / "new" / "clip.mp4", iter(frames), fps=15)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert (stream.width, stream.height) == (48, 32)
        assert stream.average_rate == 15
        assert stream.codec_context.pix_fmt == "yuv420p"
    assert len(decoded) == 12
    np.testing.assert_allclose(np.mean(decoded, axis=(1, 2)), frames[:, :32].mean(axis=(1, 2)), atol=8)
    assert [file.name for file in path.parent.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("frames", "fps", "why"),
    [
        ([], 15, "at least one frame"),
        ([np.zeros((4, 4, 3), np.uint8)], 0, "frame rate"),
        ([np.zeros((4, 4, 3), np.float32)], 15, "uint8"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((6, 4, 3), np.uint8)], 15, "one size"),
    ],
)
def test_a_video_that_cannot_be_leaves_no_file(tmp_path, frames, fps, why) -> None:
    with pytest.raises(FermoError, match=why):
        write_mp4(tmp_path / "clip.mp4", frames, fps=fps)
    assert list(tmp_path.iterdir()) == []
