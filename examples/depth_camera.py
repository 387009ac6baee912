"""PickCube seen by a depth camera in every world while the scripted expert picks; one world is recorded.

The camera delivers 12.5 pictures a second, 80 ms late, as an observation of the task.
"""

from pathlib import Path

import torch
from gymnasium.vector import AutoresetMode

from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.rendering.camera_sensor import CameraSensorConfig, with_camera
from fermo.envs.rendering.recorder import Recorder
from fermo.envs.rendering.video import write_mp4
from fermo.envs.tasks.so101_pick_cube import PickCube
from fermo.training.demos.pick_cube_expert import PickCubeExpert


def main(folder: Path = Path("depth-camera"), num_envs: int = 4, steps: int = 150) -> None:
    camera = CameraSensorConfig(camera="front", width=48, height=36, rate_hz=12.5, latency_s=0.08, max_depth=1.0)
    task = with_camera(PickCube(), camera, signal="depth")
    depth_part = task.spec.observation_slices()["depth"]
    env = Recorder(VectorEnv(task, num_envs, seed=0, autoreset_mode=AutoresetMode.DISABLED), worlds=[0])
    expert = PickCubeExpert(task)

    obs, info = env.reset()
    pictures = []
    for _ in range(steps):
        obs, _, _, _, info = env.step(expert(obs[:, : depth_part.start]))  # the expert needs no picture
        pictures.append(obs[0, depth_part].reshape(camera.height, camera.width, 1))

    files = env.save(folder)  # film=True adds a colour film
    depth = torch.stack(pictures).expand(-1, -1, -1, 3)  # [m]
    grey = (255 * depth / camera.max_depth).byte().numpy()
    files.append(write_mp4(folder / "depth.mp4", grey, task.spec.rate_hz))
    print(f"{info['success'].float().mean():.0%} lifted, nearest point {depth.min():.2f} m")
    print(*files, sep="\n")


if __name__ == "__main__":
    main()
