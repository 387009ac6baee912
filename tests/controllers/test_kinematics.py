"""Chains against MuJoCo, against finite differences, and rotation vectors against their axioms."""

import math

import hypothesis.strategies as st
import mujoco
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from fermo.assets.scenes.so101 import TOOL_SITE, so101_scene
from fermo.controllers.kinematics import SerialChain, rotation_vector
from fermo.errors import FermoError
from tests.controllers.chains import ARM, SEVEN_AXES, compile_model, site_pose

SO101 = "so101"
MODELS = {
    "tilted": (lambda: compile_model(ARM), "tool"),
    "seven_axes": (lambda: compile_model(SEVEN_AXES), "tool"),
    SO101: (lambda: so101_scene(with_cube=False).compile(), TOOL_SITE),
}


@pytest.fixture(scope="module", params=MODELS)
def arm(request):
    make, site = MODELS[request.param]
    model = make()
    return model, site, SerialChain.from_model(model, site)


def samples(chain: SerialChain, count: int = 20) -> torch.Tensor:
    low, high = chain.low.clamp(min=-math.pi), chain.high.clamp(max=math.pi)
    draw = torch.rand(count, len(low), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return low + (high - low) * draw


def full_qpos(model, chain: SerialChain, q: torch.Tensor) -> np.ndarray:
    qpos = model.qpos0.copy()
    qpos[list(chain.qpos_index)] = q.numpy()
    return qpos


def test_pose_and_jacobian_are_mujocos(arm) -> None:
    model, site, chain = arm
    q = samples(chain)
    position, rotation, jacobian = chain.forward(q)
    dofs = [int(model.joint(name).dofadr[0]) for name in chain.joint_names]
    for row in range(len(q)):
        expected = site_pose(model, full_qpos(model, chain, q[row]), site)
        np.testing.assert_allclose(position[row], expected[0], atol=1e-12)
        np.testing.assert_allclose(rotation[row], expected[1], atol=1e-12)
        np.testing.assert_allclose(jacobian[row], expected[2][:, dofs], atol=1e-12)


def test_jacobian_is_the_derivative_of_the_pose(arm) -> None:
    _, _, chain = arm
    q, step = samples(chain, 5), 1e-6
    _, rotation, jacobian = chain.forward(q)
    for joint in range(q.shape[1]):
        shift = torch.zeros_like(q)
        shift[:, joint] = step
        (ahead, turned, _), (behind, turned_back, _) = chain.forward(q + shift), chain.forward(q - shift)
        linear = (ahead - behind) / (2 * step)
        angular = rotation_vector(turned @ turned_back.transpose(1, 2)) / (2 * step)
        torch.testing.assert_close(torch.cat([linear, angular], dim=1), jacobian[:, :, joint], atol=1e-8, rtol=0.0)
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).to(q).expand(5, 3, 3))


def test_autograd_gives_the_linear_jacobian(arm) -> None:
    _, _, chain = arm
    q = samples(chain, 3).requires_grad_()
    position, _, jacobian = chain.forward(q)
    for axis in range(3):
        (gradient,) = torch.autograd.grad(position[:, axis].sum(), q, retain_graph=True)
        torch.testing.assert_close(gradient, jacobian[:, axis], atol=1e-12, rtol=0.0)


def test_gravity_torque_is_mujocos_bias_at_rest(arm) -> None:
    model, _, chain = arm
    data = mujoco.MjData(model)
    dofs = [int(model.joint(name).dofadr[0]) for name in chain.joint_names]
    q = samples(chain)
    torque = chain.gravity_torque(q, gravity=-float(model.opt.gravity[2]))
    for row in range(len(q)):
        data.qpos[:] = full_qpos(model, chain, q[row])
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(torque[row], data.qfrc_bias[dofs], atol=1e-10)


def test_what_is_read_from_a_model() -> None:
    chain = SerialChain.from_model(compile_model(ARM), "tool")
    assert chain.joint_names == ("pan", "rail", "elbow", "wrist")
    assert chain.is_slide == (False, True, False, False)
    assert chain.low.tolist() == [-2.5, -0.1, -1.8, -math.inf]
    assert chain.high.tolist() == [2.5, 0.25, 2.2, math.inf]
    assert chain.reference.tolist() == [0.0, 0.0, 0.4, 0.0]


def test_a_float32_chain_agrees_with_the_float64_one() -> None:
    model = compile_model(ARM)
    double, single = (SerialChain.from_model(model, "tool", dtype) for dtype in (torch.float64, torch.float32))
    q = samples(double)
    for ours, exact in zip(single.forward(q.float()), double.forward(q), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, exact.float(), atol=2e-6, rtol=0.0)


def test_chains_that_cannot_be_are_refused() -> None:
    with pytest.raises(FermoError, match=r"'bolted' does not move"):
        SerialChain.from_model(compile_model(ARM), "bolted")
    ball = '<body name="b"><joint type="ball"/><geom size="1"/><site name="s"/></body>'
    with pytest.raises(FermoError, match=r"'b' .* exactly one hinge or slide"):
        SerialChain.from_model(compile_model(f"<mujoco><worldbody>{ball}</worldbody></mujoco>"), "s")


def exponential(vector: torch.Tensor) -> torch.Tensor:
    x, y, z = vector.unbind(dim=1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
    return torch.linalg.matrix_exp(skew)


DIRECTIONS = st.tuples(*[st.floats(-1.0, 1.0)] * 3).filter(lambda v: math.hypot(*v) > 0.1)
ANGLES = st.one_of(
    st.floats(0.0, math.pi),
    st.floats(0.0, 1e-6),
    st.floats(0.0, 2e-4).map(lambda gap: math.pi - gap),
)


def vector_of(direction: tuple[float, float, float], angle: float) -> torch.Tensor:
    unit = torch.tensor([direction], dtype=torch.float64)
    return angle * unit / unit.norm()


@settings(max_examples=150, deadline=None)
@given(direction=DIRECTIONS, angle=ANGLES)
def test_rotation_vector_inverts_the_exponential(direction: tuple[float, float, float], angle: float) -> None:
    vector = vector_of(direction, angle)
    rotation = exponential(vector)
    found = rotation_vector(rotation)
    torch.testing.assert_close(exponential(found), rotation, atol=1e-9, rtol=0.0)
    if angle < math.pi - 1e-6:  # at pi both signs name the same rotation
        torch.testing.assert_close(found, vector, atol=1e-8, rtol=0.0)


@settings(max_examples=60, deadline=None)
@given(direction=DIRECTIONS, angle=st.floats(0.0, math.pi - 1e-3), other=DIRECTIONS, turn=st.floats(0.0, math.pi))
def test_rotation_vector_axioms(direction, angle: float, other, turn: float) -> None:
    rotation, frame = exponential(vector_of(direction, angle)), exponential(vector_of(other, turn))
    found = rotation_vector(rotation)
    assert float(found.norm()) <= math.pi + 1e-12
    torch.testing.assert_close(rotation_vector(rotation.transpose(1, 2)), -found, atol=1e-9, rtol=0.0)
    torch.testing.assert_close((rotation @ found[:, :, None])[:, :, 0], found, atol=1e-9, rtol=0.0)
    conjugated = rotation_vector(frame @ rotation @ frame.transpose(1, 2))
    torch.testing.assert_close(conjugated, (frame @ found[:, :, None])[:, :, 0], atol=1e-8, rtol=0.0)


def test_half_turns_and_no_turn() -> None:
    half_turns = torch.diag_embed(torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64))
    torch.testing.assert_close(rotation_vector(half_turns).abs(), math.pi * torch.eye(3, dtype=torch.float64))
    assert torch.equal(rotation_vector(torch.eye(3)[None]), torch.zeros(1, 3))
