"""The command line: short help, mistakes in one line with a suggestion and status 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fermo.cli import COMMANDS, main

MISTAKES = {
    "tsaks": "did you mean 'tasks'?",
    "tasks SO101-PickCub": "did you mean 'SO101-PickCube-v0'?",
    "tasks --perturbation": "did you mean --perturbations?",
    "tasks Hopper extra": "unrecognized options: extra",
    "play Hoppr": "did you mean 'Hopper-v5'?",
    "play ./no-such-folder": "there is no checkpoint folder",
    "play Hopper --agent clever": "--agent",
    "play Hopper --agent trained": "a trained agent comes from a checkpoint",
    "play": "required",
    "assets fetch so100": "did you mean 'so101'?",
    "assets fetch": "choose from so101",
    "assets add so101 no-such.whl": "no file no-such.whl",
    "certify no-such-folder": "there is no checkpoint folder",
    "deploy no-such-folder --robot so100": "did you mean 'so101'?",
    "deploy no-such-folder": "there is no checkpoint folder",
    "deploy no-such-folder --episodes 0": "must be positive",
    "deploy no-such-folder --episode 3": "did you mean --episodes?",
    "deploy no-such-folder --episodes many": "invalid",
    "deploy no-such-folder --execute 4": "add --chunking real-time",
    "deploy no-such-folder --inference-delay 0.2": "add --chunking real-time",
    "deploy no-such-folder --chunking realtime": "invalid",
    "deploy no-such-folder --chunking naive --execute 0": "at least 1 action",
    "deploy no-such-folder --chunking naive --inference-delay -1": "cannot be negative",
    "deploy no-such-folder --safety.gamma 0.1": "add --filter",
    "deploy no-such-folder --filter --safety.gamma 0": "gamma must lie above 0",
    "deploy no-such-folder --filter --safety.half-spaces 0 0 2 0.1": "a half-space is a unit normal",
    "twin so100": "did you mean 'so101'?",
    "calibrate so100 --port x": "did you mean 'so101'?",
    "train": "needs a task and a family",
    "train SO101-PickCube lipshitz_bc": "did you mean 'lipschitz_bc'?",
    "train SO101-PickCube lipschitz_bc --policy.gama 3": "did you mean --policy.gamma?",
    "train SO101-PickCube lipschitz_bc --training.lr=-1": "lr must be positive",
    "train SO101-PickCube lipschitz_bc --data no-such-folder --folder no-such-run": "there is no dataset folder",
    "train SO101-PickCube lipschitz_bc --policy.construction sandwich": "choose relu or tanh",
    "train SO101-PickCube lipschitz_bc --policy.gamma-weight 0.1": "give gamma, a fixed bound, or gamma_weight",
    "train SO101-PickCube lipschitz_extension --policy.alpha 0": "alpha must be positive",
    "train SO101-PickCube lipschitz_extension --training.sample 10": "did you mean --training.samples?",
    "train CartPole goal_bc --policy.head gmm": "invalid choice 'gmm'",
    "train CartPole goal_bc --policy.head behavior_transformer --policy.chunk 2": "give chunk 1, not 2",
    "train CartPole beso --policy.ddpm.steps 200": "steps must lie between 1 and the training's 100",
    "train Hopper mlp_bc": "choose from BlockPush-v0, CartPole-v0, FrankaKitchen-v0, Pendulum-v0, SO101-PickCube-v0",
    "train Hopper sca": "did you mean 'sac'?",
    "train Hopper ppo --training.gama 0.9": "did you mean --training.gamma?",
    "train Hopper td3 --training.hidden 0": "at least one positive width",
    "train Hopper ppo --num-envs 0": "num-envs must be positive",
    "train Hopper ppo --perturb friction=0.5:x": "could not convert",
    "train Hopper ppo --perturb friction=0.5:99": "friction severity 99",
    "train Hopper ppo --perturb cube_mass=0.05": "cube",
    "train Hopper sb3_ppo --training.gae-lambda 2": "gae_lambda must lie between 0 and 1",
    "record Hopper": "choose from BlockPush-v0, CartPole-v0, FrankaKitchen-v0, Pendulum-v0, SO101-PickCube-v0",
    "record Hopper --expert no-such-folder": "there is no checkpoint folder",
    "record SO101-PickCube --episodes -1": "must not be negative",
    "reproduce no-such-thing": "unknown reproduction",
    "reproduce --budget huge": "--budget",
    "bench-speed": "name at least one task",
    "bench-speed Hoppr": "did you mean 'Hopper-v5'?",
    "bench-speed Hopper --num-envs 8 0": "num_envs must be at least 1, got 8 0",
    "bench-speed Hopper --threads 100000": "threads must be from 1 to the",
    "bench-speed Hopper --rounds 0": "rounds and seconds must be positive",
    "bench-speed Hopper --contenders rwa": "did you mean 'raw'?",
    "bench-speed Hopper --contenders raw-warp": "raw-warp is compared with --backend warp, not cpu",
    "bench-speed Hopper --device cuda": "the cpu back end has no device cuda",
    "bench-speed Hopper --backend warp --device cdua": "unknown device 'cdua'",
    "bench-speed Hopper --peer-python no-such-python": "no-such-python is no Python that runs",
    "profile": "required",
    "profile Hoppr": "did you mean 'Hopper-v5'?",
    "profile Hopper --num-envs 0": "num_envs and steps start at 1",
    "profile Hopper --perturb frition=1": "did you mean 'friction'?",
    "profile Hopper --perturb friction": "give NAME=SEVERITY or NAME=LOW:HIGH, as friction=1 or",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_line_with_advice(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(command.split())
    told = capsys.readouterr()
    assert end.value.code == 2
    assert told.out == ""
    assert told.err.startswith("fermo: error: ")
    assert told.err.count("\n") == 1
    assert MISTAKES[command] in told.err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_path_suggests_its_neighbour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lipschitz").mkdir()
    with pytest.raises(SystemExit):
        main(["certify", str(tmp_path / "lipshitz")])
    assert f"did you mean {tmp_path / 'lipschitz'}?" in capsys.readouterr().err


def test_help_is_short_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    text = capsys.readouterr().out
    assert text.count("\n") <= 60
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert not end.value.code
    assert f"usage: fermo {command}" in capsys.readouterr().out


def test_tasks_name_signals_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    main(["tasks", "Hopper"])
    text = capsys.readouterr().out
    assert text.startswith("Hopper-v5: 125 Hz, 8 s an episode")
    assert "joint_velocity" in text
    assert "[rad/s]" in text


def test_perturbations_name_units_and_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    main(["tasks", "--perturbations"])
    assert "cube_mass: severity in kg, nominal 0.02" in capsys.readouterr().out


def test_info_names_versions(capsys: pytest.CaptureFixture[str]) -> None:
    main(["info"])
    text = capsys.readouterr().out
    assert all(name in text for name in ("fermo", "mujoco", "torch", "cpu", "OpenGL"))


def test_play_films_an_episode_without_a_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = tmp_path / "hopper.mp4"
    main(["play", "Hopper", "--agent", "random", "--video", str(video), "--width", "64", "--height", "48"])
    assert video.stat().st_size > 0
    assert str(video) in capsys.readouterr().out


@pytest.mark.parametrize("library", ["osmesa", "egl", "off", "nonsense"])
def test_a_picture_is_made_whatever_opengl_is_asked_for(tmp_path: Path, library: str) -> None:
    video = tmp_path / "hopper.mp4"
    command = [sys.executable, "-m", "fermo", "play", "Hopper", "--video", str(video), "--width", "64"]
    environment = {**os.environ, "MUJOCO_GL": library}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert video.stat().st_size > 0


def test_play_steps_a_diverged_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from gymnasium.vector import AutoresetMode

    from fermo.envs.core.nan_guard import DivergedWorldWarning
    from fermo.envs.core.vector_env import VectorEnv
    from fermo.envs.registry import make_task

    env = VectorEnv(make_task("Hopper"), 2, autoreset_mode=AutoresetMode.DISABLED, dump_folder=tmp_path)
    env.reset(seed=0)
    env.backend.read("qvel")[1] = 1e9
    with pytest.warns(DivergedWorldWarning):
        env.step(torch.zeros(2, 3))
    (dump,) = tmp_path.iterdir()
    assert json.loads((dump / "dump.json").read_text())["world"] == 1
    main(["play", str(dump), "--video", str(tmp_path / "dump.mp4"), "--width", "64", "--height", "48"])
    assert "breaks in physics step 1" in capsys.readouterr().out
    assert (tmp_path / "dump.mp4").is_file()


def test_train_records_fits_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "SO101-PickCube", "lipschitz_bc", "--policy.hidden", "16", "--policy.lr", "3e-4"]
    command += ["--num-envs", "4", "--training.steps", "4", "--folder", str(tmp_path / "run")]
    main(command)
    checkpoint = tmp_path / "run/train/checkpoint"
    assert (checkpoint / "certificate.json").is_file()
    assert json.loads((tmp_path / "run/config.json").read_text())["training"]["lr"] == 3e-4
    assert json.loads((checkpoint / "config.json").read_text())["extra"]["task"] == "fermo/SO101-PickCube-v0"
    with pytest.raises(SystemExit):
        main(command)
    assert "add --resume" in capsys.readouterr().err
    main([*command, "--resume"])
    main(["certify", str(checkpoint)])
    assert "holds" in capsys.readouterr().out


def test_a_head_is_chosen_by_name_and_stands_in_the_checkpoint(tmp_path: Path) -> None:
    command = ["train", "CartPole", "goal_bc", "--policy.head", "mixture", "--policy.mixture.components", "3"]
    main([*command, "--num-envs", "8", "--training.steps", "4", "--folder", str(tmp_path / "run")])
    kept = json.loads((tmp_path / "run/train/checkpoint/config.json").read_text())["config"]
    assert (kept["head"], kept["mixture"]["components"], kept["context"]) == ("mixture", 3, 2)


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import fermo.cli.reproduce

    def interrupted(arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fermo.cli.reproduce, "main", interrupted)
    with pytest.raises(SystemExit) as end:
        main(["reproduce", "so101-demo", "--folder", "a b"])
    assert end.value.code == 130
    assert "fermo reproduce so101-demo --folder 'a b' --resume" in capsys.readouterr().err


def test_training_below_the_stability_floor_is_refused_and_leaves_no_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "CartPole", "lipschitz_bc", "--policy.gamma", "0.1", "--policy.hidden", "16"]
    command += ["--num-envs", "8", "--training.steps", "4", "--folder", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main(command)
    assert "below the stability floor of fermo/CartPole-v0" in capsys.readouterr().err
    assert not list(tmp_path.rglob("certificate.json"))
    main([*command, "--allow-unstable", "--resume"])
    assert len(list(tmp_path.rglob("certificate.json"))) == 1
