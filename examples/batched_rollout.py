"""256 worlds of PickCube at once: the scripted expert under a cube of another mass in every world."""

import torch
from gymnasium.vector import AutoresetMode

from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.perturbations.registry import make_perturbation
from fermo.envs.tasks.so101_pick_cube import PickCube
from fermo.training.demos.pick_cube_expert import PickCubeExpert


def main(num_envs: int = 256) -> None:
    task = PickCube()
    expert = PickCubeExpert(task)
    mass = torch.linspace(0.02, 0.6, num_envs)  # [kg], one a world
    env = VectorEnv(
        task, num_envs, seed=0, autoreset_mode=AutoresetMode.DISABLED,
        perturbations=[make_perturbation("cube_mass", mass)],
    )  # fmt: skip
    obs, info = env.reset()
    for _ in range(task.max_steps):
        obs, _, _, _, info = env.step(expert(obs))
    heaviest = mass[info["success"]].max() if info["success"].any() else 0.0
    print(f"{info['success'].float().mean():.0%} lifted; heaviest cube lifted: {float(heaviest):.2f} kg")


if __name__ == "__main__":
    main()
