"""PPO through rsl_rl: resumed and killed it is the same training, on two processes one network, and it learns."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.vector import AutoresetMode
from safetensors.torch import load_file

pytest.importorskip("rsl_rl")
from fermo.cli import main
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.policies.checkpoint import load_checkpoint
from fermo.training.bench.evaluate import evaluate
from fermo.training.learn import learn
from fermo.training.loops.rl_config import PpoConfig
from fermo.training.loops.rl_metrics import EpisodeMetrics
from fermo.training.loops.rl_ppo import PpoTrainer
from fermo.training.loops.state import FILE_NAME, load_state
from fermo.training.run_folder import RunFolder
from tests.training.torchrun import torchrun

SMALL: dict[str, Any] = {"rollout_steps": 8, "hidden": (16,), "checkpoint_every": 3, "init_std": 0.5}


def small(**changed: Any) -> PpoConfig:
    return PpoConfig(**(SMALL | changed))


def batch(name: str = "InvertedPendulum", num_envs: int = 8, **task: Any) -> VectorEnv:
    return VectorEnv(make_task(name, **task), num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def weights(trainer: PpoTrainer) -> dict[str, torch.Tensor]:
    alg = trainer.runner.alg
    return {**alg.actor.state_dict(), **{f"critic {name}": value for name, value in alg.critic.state_dict().items()}}


def test_a_training_from_a_saved_state_is_the_same_training(tmp_path: Path) -> None:
    def three_rounds(trainer: PpoTrainer) -> list[dict[str, float]]:
        metrics = []
        for _ in range(3):
            trainer.take_round()
            metrics.append(trainer.metrics.take(trainer.processes))
        return metrics

    whole = PpoTrainer(batch(), small())
    three_rounds(whole)
    whole.save(tmp_path)
    expected = three_rounds(whole)
    again = PpoTrainer(batch(), small(), seed=7)
    again.restore(tmp_path)
    assert three_rounds(again) == expected
    assert all(torch.equal(value, weights(again)[key]) for key, value in weights(whole).items())


def test_the_policy_is_the_actors_mean_in_the_commands_units() -> None:
    trainer = PpoTrainer(batch("SO101-Reach"), small())
    for _ in range(2):
        trainer.take_round()
    obs = trainer.env.get_observations()
    with torch.inference_mode():
        mean = trainer.runner.alg.actor(obs).clamp(-1, 1)
    expected = trainer.env.centre + trainer.env.half_range * mean
    torch.testing.assert_close(trainer.policy().select_action(obs["policy"]), expected, atol=1e-5, rtol=1e-5)


def test_a_time_out_is_worth_the_value_of_the_state_it_cut_off() -> None:
    """Worked by hand: the stored reward of a last step is the reward and gamma times the final observation's value."""
    trainer = PpoTrainer(batch("Hopper", episode_steps=2), small(random_start=False))
    alg, env = trainer.runner.alg, trainer.env
    alg.train_mode()
    with torch.inference_mode():
        obs = env.get_observations()
        for _ in range(2):
            obs, reward, done, extras = env.step(alg.act(obs))
            alg.process_env_step(obs, reward, done, extras)
        assert extras["time_outs"].all()
        value = alg.critic(extras["final_observations"]).squeeze(1)
        torch.testing.assert_close(alg.storage.rewards[1, :, 0], reward + 0.99 * value)
        assert not torch.allclose(value, alg.critic(obs).squeeze(1))


def test_metrics_are_those_of_the_episodes_that_ended() -> None:
    trainer = PpoTrainer(batch("Hopper", episode_steps=4), small(random_start=False))
    trainer.take_round()  # eight steps: two whole episodes of every world
    metrics = trainer.metrics.take(trainer.processes)
    assert metrics["episode/length"] == 4.0
    assert metrics["episode/return"] == pytest.approx(4.0, abs=2.0)  # one a step for being upright, and a little motion


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    PpoTrainer(batch(), small()).save(tmp_path)
    with pytest.raises(FermoError, match="other lr"):
        PpoTrainer(batch(), small(lr=0.5)).restore(tmp_path)
    with pytest.raises(FermoError, match="other num_envs"):
        PpoTrainer(batch(num_envs=4), small()).restore(tmp_path)


def command(folder: Path, *more: str) -> list[str]:
    return ["train", "InvertedPendulum", "ppo", "--num-envs", "8", "--folder", str(folder),
            "--training.rollout-steps", "8", "--training.hidden", "16", "--training.iterations", "40",
            "--training.checkpoint-every", "4", *more]  # fmt: skip


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_metrics_and_weights(tmp_path: Path) -> None:
    main(command(tmp_path / "whole"))
    run = subprocess.Popen([sys.executable, "-m", "fermo", *command(tmp_path / "killed")], stdout=subprocess.DEVNULL)
    state = tmp_path / "killed/train" / FILE_NAME
    while not state.exists() and run.poll() is None:
        time.sleep(0.01)
    time.sleep(0.05)  # somewhere within the rounds that follow
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL and not (tmp_path / "killed/train/checkpoint").exists()
    done = load_state(tmp_path / "killed/train").header["round"]
    assert 4 <= done < 40 and done % 4 == 0
    main(command(tmp_path / "killed", "--resume"))
    curves = [RunFolder.open(tmp_path / name).scalars("train") for name in ("whole", "killed")]
    for tag in set(curves[0]) - {"speed/wall_s"}:
        assert curves[0][tag] == curves[1][tag], tag
    assert len(curves[0]["loss/value"]) == 40
    files = [(tmp_path / name / "train/checkpoint/model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1]


def test_a_trained_actor_is_a_checkpoint_like_any_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn(tmp_path, task="Hopper", learner="ppo", config=small(iterations=2), num_envs=8)
    policy = load_checkpoint(tmp_path / "checkpoint")
    assert policy.family == "actor_mlp"
    where = tmp_path / "eval.json"
    main(["eval", str(tmp_path / "checkpoint"), "--episodes", "4", "--json", str(where)])
    result = json.loads(where.read_text())
    low, high = result["bootstrap_95"]
    assert low <= result["return"] <= high and result["trials"] == 4 and "rate" not in result
    assert "95 % bootstrap interval" in capsys.readouterr().out
    outcome = evaluate(make_task("Hopper"), policy.select_action, episodes=4, seed=2_000_000)
    assert result["return"] == pytest.approx(float(outcome.returns.mean()))
    main(["certify", str(tmp_path / "checkpoint")])
    assert "holds" in capsys.readouterr().out


def test_ctrl_c_saves_a_whole_round_and_the_rest_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(folder: str) -> dict[str, torch.Tensor]:
        config = small(iterations=5)
        return learn(tmp_path / folder, task="InvertedPendulum", learner="ppo", config=config, num_envs=8).state_dict()

    whole, take = trained("whole"), EpisodeMetrics.take
    with monkeypatch.context() as patch:
        patch.setattr(EpisodeMetrics, "take", lambda *a: signal.raise_signal(signal.SIGINT) or take(*a))
        with pytest.raises(KeyboardInterrupt, match="step 1 of 5"):
            trained("halves")
    assert not (tmp_path / "halves/checkpoint").exists()
    halves = trained("halves")
    assert all(torch.equal(value, halves[name]) for name, value in whole.items())


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes ended with, in worlds of their own and in the same ones."""
    folder = tmp_path_factory.mktemp("two")
    torchrun(str(Path(__file__).with_name("rl_two_processes.py")), json.dumps(SMALL), str(folder))
    return folder


def test_two_processes_train_one_network_in_worlds_of_their_own(two_processes: Path) -> None:
    first, second = (load_file(two_processes / f"own{rank}.safetensors") for rank in (0, 1))
    starts = first.pop("first"), second.pop("first")
    alone = PpoTrainer(batch(), small())
    assert torch.equal(starts[0], alone.env.get_observations()["policy"])
    assert not torch.isclose(*starts).all(dim=1).any()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for _ in range(2):
        alone.take_round()
    assert not all(torch.equal(first[name], value) for name, value in alone.runner.alg.actor.state_dict().items())
    metrics = [json.loads((two_processes / f"own{rank}.json").read_text()) for rank in (0, 1)]
    assert metrics[0]["episode/return"] == metrics[1]["episode/return"]


def test_two_processes_in_the_same_worlds_are_one(two_processes: Path) -> None:
    """The mean of two equal gradients is that gradient, so nothing may differ from a training that is alone."""
    first, second = (load_file(two_processes / f"same{rank}.safetensors") for rank in (0, 1))
    trainer = PpoTrainer(batch(), small())
    torch.manual_seed(0)
    for _ in range(2):
        trainer.take_round()
    for name, value in trainer.runner.alg.actor.state_dict().items():
        assert torch.equal(first[name], second[name])
        if "count" not in name:  # the samples behind the observations' statistics are twice as many
            torch.testing.assert_close(first[name], value, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_the_command_under_torchrun_resumes_in_the_worlds_of_every_process(tmp_path: Path) -> None:
    torchrun("-m", "fermo", *command(tmp_path / "whole"))
    state = load_state(tmp_path / "whole/train")
    assert not torch.equal(state.group("process0")["env.worlds"], state.group("process1")["env.worlds"])
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again/train")
    shutil.rmtree(tmp_path / "again/stages")
    first = [*command(tmp_path / "stopped"), "--training.iterations", "20"]
    torchrun("-m", "fermo", *first)
    shutil.copytree(tmp_path / "stopped/train", tmp_path / "again/train", ignore=shutil.ignore_patterns("checkpoint"))
    torchrun("-m", "fermo", *command(tmp_path / "again", "--resume"))
    files = [(tmp_path / name / "train/checkpoint/model.safetensors").read_bytes() for name in ("whole", "again")]
    assert files[0] == files[1]


@pytest.mark.slow
def test_reach_is_learned_in_minutes(tmp_path: Path) -> None:
    from fermo.training.recipes import learner_recipe, worlds_recipe

    task, learner = "fermo/SO101-Reach-v0", "ppo"
    policy = learn(tmp_path, task=task, learner=learner, config=learner_recipe(task, learner),
                   num_envs=worlds_recipe(task, learner))  # fmt: skip
    low, high = (torch.tensor(getattr(make_task(task).spec.commands[0], side)) for side in ("low", "high"))
    generator = torch.Generator().manual_seed(0)
    random = lambda obs: low + (high - low) * torch.rand(len(obs), len(low), generator=generator)  # noqa: E731
    chance = evaluate(make_task(task), random, episodes=256, seed=2_000_000)
    learned = evaluate(make_task(task), policy.select_action, episodes=256, seed=2_000_000)
    assert chance.success.float().mean() < 0.05
    assert learned.success.float().mean() > 0.5
    assert learned.returns.mean() > chance.returns.mean() + 10.0
