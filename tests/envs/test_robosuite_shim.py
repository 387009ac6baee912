"""robosuite and gymnasium-robotics on a MuJoCo newer than they know, each in an interpreter of its own.

The shim changes MuJoCo for the whole process, so nothing is installed in the one that runs the other tests.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest

INSTALL = """
from fermo.envs.adapters import mujoco_compat
mujoco_compat.install()
"""

LIFT = """
import json
import numpy as np
import robosuite

env = robosuite.make("Lift", robots="Panda", has_renderer=False, has_offscreen_renderer=False, use_camera_obs=False)
env.reset()
low, high = env.action_spec
generator = np.random.default_rng(0)
finite = []
for _ in range(20):
    obs, reward, _, _ = env.step(generator.uniform(low, high))
    finite.append(bool(np.isfinite(reward) and all(np.isfinite(value).all() for value in obs.values())))
arm = env.robots[0].part_controllers["right"]
mass = arm.mass_matrix
print(json.dumps({"finite": finite, "symmetric": bool(np.allclose(mass, mass.T)),
                  "smallest": float(np.linalg.eigvalsh(mass).min())}))
"""

GYMNASIUM_ROBOTICS = """
import json
import gymnasium
import gymnasium_robotics
import numpy as np

gymnasium.register_envs(gymnasium_robotics)
finite = []
for name in ("FetchReach-v4", "FrankaKitchen-v1"):
    env = gymnasium.make(name, disable_env_checker=True)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(20):
        obs, reward, *_ = env.step(env.action_space.sample())
        finite.append(bool(np.isfinite(reward) and np.isfinite(obs["observation"]).all()))
print(json.dumps({"finite": finite}))
"""

OWN_MODULES = """
import json
import torch
from fermo.assets.scenes.so101 import TOOL_SITE
from fermo.controllers.kinematics import SerialChain
from fermo.envs.adapters import mujoco_compat
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task

def trajectory(name):
    env = VectorEnv(make_task(name), 3, seed=5, backend_options={"num_threads": 1})
    rows = [env.reset()[0]]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        actions = torch.rand(3, env.task.spec.command_size, generator=generator)
        obs, reward, *_ = env.step(actions)
        rows += [obs.clone(), reward.clone()]
    return torch.cat([row.double().flatten() for row in rows])

def chain():
    return SerialChain.from_model(make_task("SO101-PickCube").model, TOOL_SITE).offset

NAMES = ("SO101-PickCube", "Hopper", "Humanoid")
before = [trajectory(name) for name in NAMES] + [chain()]
mujoco_compat.install()
after = [trajectory(name) for name in NAMES] + [chain()]
print(json.dumps({"same": [torch.equal(*pair) for pair in zip(before, after)]}))
"""

BINDINGS = """
import json
import mujoco
import numpy as np

HINGE, SLIDE = mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><body><joint axis="0 1 0"/><geom size="0.1" pos="0.3 0 0"/>'
    '<body pos="0.5 0 0"><joint type="slide"/><geom size="0.1"/></body></body></worldbody></mujoco>'
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
old, new, named = (np.zeros((2, 2)) for _ in range(3))
mujoco.mj_fullM(model, old, data.qM)
mujoco.mj_fullM(model, data, new)
mujoco.mj_fullM(m=model, d=data, dst=named)
functions = mujoco.mj_fullM, mujoco.mjtJoint.__eq__
mujoco_compat.install()
print(json.dumps({
    "equal": bool(HINGE == np.int32(3) and not (HINGE != np.int32(3)) and np.int64(3) == HINGE),
    "different": bool(HINGE != np.int32(2) and not (HINGE == np.int32(2))),
    "member": bool(model.jnt_type[1] in (HINGE, SLIDE) and model.jnt_type[0] not in (SLIDE,)),
    "others": bool(HINGE == 3 and HINGE != SLIDE and HINGE != "hinge" and HINGE is not None and HINGE != 3.5),
    "hash": bool(len({HINGE, SLIDE, mujoco.mjtJoint(3)}) == 2),
    "inertia": bool((old == new).all() and (old == named).all() and (np.diag(old) > 0).all()),
    "idempotent": functions == (mujoco.mj_fullM, mujoco.mjtJoint.__eq__),
}))
"""


def run(code: str) -> dict[str, Any]:
    """What `code` prints last, as JSON, in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_bindings_understand_old_and_new_calls() -> None:
    answers = run(INSTALL + BINDINGS)
    assert answers == dict.fromkeys(answers, True)


def test_fermo_behaves_the_same_with_the_shim() -> None:
    assert run(OWN_MODULES)["same"] == [True] * 4


@pytest.mark.skipif(find_spec("robosuite") is None, reason="robosuite is an extra and is not installed")
@pytest.mark.slow
def test_robosuite_lift_steps() -> None:
    answers = run(INSTALL + LIFT)
    assert answers["finite"] == [True] * 20
    assert answers["symmetric"]
    assert answers["smallest"] > 0.0


@pytest.mark.skipif(find_spec("gymnasium_robotics") is None, reason="gymnasium-robotics is an extra, not installed")
def test_gymnasium_robotics_steps() -> None:
    assert run(INSTALL + GYMNASIUM_ROBOTICS)["finite"] == [True] * 40
