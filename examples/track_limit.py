"""A cart pushed to and fro with all its force, in 64 worlds, and a safety filter that keeps it on a short track.

The force accelerates the cart: position has relative degree 2. The filter is told the plant's equations of motion, how
wrong they may become within a period, and nothing else.
"""

import math

import mujoco
import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from fermo.controllers.barriers import AcceleratedHalfSpaces, JointVelocityLimits
from fermo.controllers.safety_filter import SafetyFilter
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.tasks.cart_pole import CartPole

TRACK, SPEED = 1.0, 2.5  # m, m/s
GRAVITY = 9.81  # m/s^2


def equations_of_motion(model: mujoco.MjModel):
    """``M(q) a + c(q, v) = (u, 0)`` for cart position and pole angle, solved for ``a = f + g u``."""
    cart, pole = model.body("cart"), model.body("pole")
    total, mass, length = cart.mass[0] + pole.mass[0], pole.mass[0], np.linalg.norm(pole.ipos)
    inertia = pole.inertia[0] + mass * length**2

    def dynamics(q: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sin, cos = np.sin(q[:, 1]), np.cos(q[:, 1])
        push = np.stack([mass * length * sin * v[:, 1] ** 2, mass * GRAVITY * length * sin], axis=1)
        push = push - model.dof_damping * v
        coupling = mass * length * cos
        matrix = np.stack([np.full_like(cos, total), coupling, coupling, np.full_like(cos, inertia)], axis=1)
        inverse = np.linalg.inv(matrix.reshape(-1, 2, 2))
        return (inverse @ push[:, :, None])[..., 0], inverse[:, :, :1]

    return dynamics


def main(num_envs: int = 64, steps: int = 300) -> None:
    task = CartPole()
    dynamics, dt = equations_of_motion(task.model), task.control_dt
    common = {"gain_bound": 10.0, "period": dt, "gamma": 0.3, "acceleration_error": 4.0}
    sides = np.array([[1.0, 0.0], [-1.0, 0.0]])
    safety = SafetyFilter(
        [
            AcceleratedHalfSpaces(sides, np.full(2, -TRACK), ["left end", "right end"], dynamics, decay=2.5,
                                  largest_acceleration=25.0, **common),
            JointVelocityLimits(np.array([SPEED, math.inf]), ("cart", "pole"), dynamics, **common),
        ],
        np.array([task.low]), np.array([task.high]), lambda state: -10.0 * state["joint_velocity"][:, :1],
    )  # fmt: skip
    env = VectorEnv(task, num_envs, seed=0, autoreset_mode=AutoresetMode.DISABLED)
    env.reset()
    random, furthest = torch.Generator().manual_seed(0), 0.0
    push = torch.ones(num_envs, 1, dtype=torch.float64)
    for _ in range(steps):
        push = torch.where(torch.rand(num_envs, 1, generator=random) < 0.02, -push, push)
        state = {"joint_position": env.sim["qpos"], "joint_velocity": env.sim["qvel"]}
        env.step(safety.command(task.high * push, state))
        furthest = max(furthest, float(env.sim["qpos"][:, 0].abs().max()))
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in safety.counts.items())
    print(f"the cart came within {100 * (TRACK - furthest):.1f} cm of the end of its track; commands: {outcomes}")


if __name__ == "__main__":
    main()
