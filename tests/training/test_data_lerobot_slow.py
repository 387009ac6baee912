"""LeRobot 0.4.4's own, unmodified `LeRobotDataset` opens what we wrote.

It runs in an environment of its own, since LeRobot pins torch < 2.11: LeRobot without its dependencies, the light ones
by name, and our torch by a path file that comes last. torchvision, which LeRobot imports for images only, is the real
one without its dependencies; beside a torch without CUDA its compiled operators cannot load, so the probe declares
the two names that its import asks for. No image is decoded here, and nothing else stands in for anything.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fermo.signal import PlantSpec, Signal
from fermo.training.data.reader import Dataset
from fermo.training.data.writer import DatasetWriter

TORCH_MINOR = int(torch.__version__.split(".")[1])
ALONE = ("lerobot==0.4.4", "accelerate==1.10.1", f"torchvision==0.{TORCH_MINOR + 15}.*")
LIGHT = ("datasets>=4,<5", "huggingface-hub>=0.34,<0.36", "pandas<3", "pyarrow<26", "numpy<2", "av>=15,<16", "pillow",
         "packaging", "jsonlines", "einops", "deepdiff", "psutil", "pyyaml", "safetensors")  # fmt: skip

PROBE = """
import json, sys, torch
if torch.version.cuda is None:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from lerobot.datasets.compute_stats import compute_episode_stats
from lerobot.datasets.lerobot_dataset import LeRobotDataset
import numpy as np

root, item = sys.argv[1], int(sys.argv[2])
whole = LeRobotDataset("fermo/test", root=root)
part = LeRobotDataset("fermo/test", root=root, episodes=[1], delta_timestamps={"action": [0.0, 0.04]})
end = whole.meta.episodes["dataset_to_index"][0]
first = whole.hf_dataset.with_format("numpy")[:end]
stats = compute_episode_stats({key: np.asarray(first[key]) for key in ("observation.state", "action")}, whole.features)
frame = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in whole[item].items()}
print(json.dumps({
    "frames": len(whole), "episodes": whole.num_episodes, "fps": whole.fps,
    "lengths": list(whole.meta.episodes["length"]), "names": whole.meta.names["observation.state"], "item": frame,
    "part": len(part), "chunk": part[0]["action"].tolist(), "mean": whole.meta.stats["action"]["mean"].tolist(),
    "first": {key: {name: stats[key][name].tolist() for name in ("min", "max", "mean", "std")} for key in stats},
}))
"""


@pytest.fixture(scope="module")
def lerobot_python(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lerobot") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q"]
    subprocess.run([*install, "--no-deps", *ALONE], check=True)
    subprocess.run([*install, *LIGHT], check=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    (packages / "zz_torch.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    return python


def record(folder: Path) -> None:
    spec = PlantSpec(
        observations=(
            Signal.uniform(name="joint_position", shape=(6,), unit="rad"),
            Signal.uniform(name="cube_position", shape=(3,), unit="m"),
        ),
        commands=(Signal.uniform(name="joint_target", shape=(6,), unit="rad"),),
        rate_hz=25.0,
    )
    rng = np.random.default_rng(0)
    with DatasetWriter(folder, spec=spec, robot_type="so101", tasks=("pick the cube",), file_mb=1) as writer:
        for length in (150, 20, 9000, 9000, 7):
            writer.add_episode(rng.normal(size=(length, 9)), rng.normal(size=(length, 6)), success=length > 50,
                               task="pick the cube", extras={"next.reward": np.zeros(length)})  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lerobots_own_class_opens_our_dataset(lerobot_python, tmp_path):
    record(tmp_path / "set")
    ours, item = Dataset.open(tmp_path / "set"), 155
    result = subprocess.run(
        [str(lerobot_python), "-c", PROBE, str(tmp_path / "set"), str(item)], capture_output=True, text=True,
        env={"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    theirs = json.loads(result.stdout.splitlines()[-1])
    assert theirs["frames"] == len(ours) and theirs["episodes"] == ours.episodes and theirs["fps"] == 25
    assert theirs["lengths"] == ours.lengths.tolist()
    assert theirs["names"][0] == "joint_position.0" and theirs["names"][-1] == "cube_position.2"
    frame = theirs["item"]
    np.testing.assert_array_equal(np.float32(frame["observation.state"]), ours.observations[item])
    np.testing.assert_array_equal(np.float32(frame["action"]), ours.actions[item])
    assert (frame["episode_index"], frame["frame_index"], frame["index"]) == (1, item - 150, item)
    assert frame["task"] == "pick the cube" and frame["timestamp"] == pytest.approx(5 / 25)
    assert frame["next.done"] is False and frame["next.success"] is False
    assert theirs["part"] == 20
    np.testing.assert_array_equal(np.float32(theirs["chunk"]), ours.actions[150:152])
    np.testing.assert_allclose(theirs["mean"], ours.actions.mean(axis=0, dtype=np.float64), atol=1e-9)
    first = ours.observations[:150].astype(np.float64)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(theirs["first"]["observation.state"][name], getattr(first, name)(axis=0), atol=1e-5)
