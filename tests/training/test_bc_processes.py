"""Cloning by several processes: one policy, each batch shared among them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from fermo.errors import FermoError
from fermo.policies.base import Policy
from fermo.training.data.reader import Dataset
from fermo.training.loops.bc import train_bc
from fermo.training.loops.bc_config import BcConfig
from fermo.training.loops.processes import Processes
from fermo.training.loops.random_streams import Stream, stream_generator
from fermo.training.loops.state import FILE_NAME, load_state
from tests.policies.plants import demonstrations, fitted_policy
from tests.training.torchrun import torchrun

FAMILIES = ("mlp_bc", "lipschitz_bc", "beso")
CONFIG = BcConfig(steps=12, batch_size=96, lr=3e-3, warmup_steps=4, ema_decay=0.9, grad_clip=1.0, validation=0.1,
                  log_every=5, checkpoint_every=5)  # fmt: skip


def train(family: str, **options: Any) -> Policy:
    observations, actions = demonstrations()
    policy = fitted_policy(family)
    episodes = torch.arange(len(observations)) // 16
    train_bc(policy, observations, actions, config=CONFIG, episode_index=episodes, **options)
    return policy


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes ended with."""
    folder = tmp_path_factory.mktemp("two")
    torchrun("-m", "tests.training.bc_two_processes", str(folder))
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_end_with_one_policy_and_one_state(family: str, two_processes: Path) -> None:
    first, second = (load_file(two_processes / f"{family}{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert load_state(two_processes / family).header["step"] == CONFIG.steps


@pytest.mark.parametrize("family", ["mlp_bc", "lipschitz_bc"])
def test_without_chance_two_processes_are_one(family: str, two_processes: Path) -> None:
    """The mean of the gradients of two halves of a batch is the batch's."""
    alone = train(family).state_dict()
    for name, value in load_file(two_processes / f"{family}0.safetensors").items():
        torch.testing.assert_close(value, alone[name], atol=2e-5, rtol=2e-4)


def test_with_chance_each_process_draws_its_own(two_processes: Path) -> None:
    alone = train("beso").state_dict()
    together = load_file(two_processes / "beso0.safetensors")
    assert not all(torch.equal(together[name], value) for name, value in alone.items())
    draws = [torch.rand(4, generator=stream_generator(0, Stream.SAMPLE, 3, rank=rank)) for rank in range(3)]
    assert not any(torch.equal(draws[i], draws[j]) for i in range(3) for j in range(i))


@given(count=st.integers(1, 5), each=st.integers(1, 7))
def test_the_shares_of_a_batch_are_the_batch(count: int, each: int) -> None:
    batch = torch.arange(count * each)
    shares = [Processes(rank=rank, count=count).share(batch) for rank in range(count)]
    assert {len(share) for share in shares} == {each}
    assert torch.equal(torch.cat(shares).sort().values, batch)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(FermoError, match="batch_size 96 must be a multiple of the 5 processes"):
        train("mlp_bc", processes=Processes(rank=0, count=5))


def test_a_state_of_two_processes_is_no_state_of_one(two_processes: Path) -> None:
    with pytest.raises(FermoError, match="other processes"):
        train("mlp_bc", folder=two_processes / "mlp_bc", resume=True)


@pytest.mark.slow
def test_the_command_under_torchrun_records_once_trains_and_resumes(tmp_path: Path) -> None:
    def command(name: str, steps: int, *more: str) -> list[str]:
        return ["train", "CartPole", "beso", "--num-envs", "16", "--folder", str(tmp_path / name), "--training.steps",
                str(steps), "--training.batch-size", "64", "--training.checkpoint-every", "10",
                *more]  # fmt: skip

    torchrun("-m", "fermo", *command("whole", 30))
    torchrun("-m", "fermo", *command("again", 30))
    weights = [(tmp_path / name / "train/checkpoint/model.safetensors").read_bytes() for name in ("whole", "again")]
    assert weights[0] == weights[1]
    assert len(Dataset.open(tmp_path / "whole/record/dataset").lengths) == 16
    shutil.rmtree(tmp_path / "again/train/checkpoint")
    (tmp_path / "again/stages/train.json").unlink()
    assert (tmp_path / "again/train" / FILE_NAME).is_file()
    torchrun("-m", "fermo", *command("again", 30, "--resume"))
    assert (tmp_path / "again/train/checkpoint/model.safetensors").read_bytes() == weights[0]
