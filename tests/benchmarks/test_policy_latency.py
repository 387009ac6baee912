"""Contenders do the same work, take turns, and those that cannot say why."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fermo.benchmarks import page
from fermo.benchmarks import policy_latency as latency
from fermo.benchmarks.latency_contenders import (
    CONTENDERS,
    Bout,
    Contender,
    ScheduledDdpm,
    ScheduledDiffusion,
    fermo_policy,
)
from fermo.benchmarks.policy_latency import LatencyOptions, LatencyRow, PolicyLatency, measure, ratios, table
from fermo.errors import FermoError
from fermo.policies.beso.ddpm import Ddpm
from fermo.training.files import write_json

BOUT = Bout(size="block_push", batch=3, evaluations=2)
OPTIONS = LatencyOptions(sizes=("block_push",), batches=(3,), evaluations=(2,), rounds=2, seconds=0.001, threads=1)
with_diffusers = pytest.mark.skipif(importlib.util.find_spec("diffusers") is None, reason="diffusers is not installed")


def test_an_answer_is_an_action_a_world_and_costs_its_evaluations() -> None:
    policy = fermo_policy(BOUT)
    assert policy.objective.evaluations() == 2
    assert policy.select_action(BOUT.observations()).shape == (3, 2)


@with_diffusers
@pytest.mark.parametrize("evaluations", [2, 3, 10])  # its one step is another
def test_diffusers_euler_takes_the_steps_that_fermo_takes(evaluations: int) -> None:
    bout = replace(BOUT, evaluations=evaluations)
    own, theirs = fermo_policy(bout), fermo_policy(bout)
    theirs.objective = ScheduledDiffusion(theirs.config)
    expected, answer = (each.select_action(bout.observations()) for each in (own, theirs))
    torch.testing.assert_close(answer, expected, atol=2e-4, rtol=2e-4)


@with_diffusers
@pytest.mark.parametrize("evaluations", [1, 2, 10])
def test_diffusers_ddim_takes_the_steps_that_fermo_takes(evaluations: int) -> None:
    own = fermo_policy(replace(BOUT, evaluations=evaluations), objective="ddpm")
    theirs = ScheduledDdpm(own.config, 2)
    objective = own.objective
    assert isinstance(objective, Ddpm)

    def network(x: torch.Tensor, level: float | torch.Tensor) -> torch.Tensor:
        signal, spread = objective.shares[int(level)]
        return (x - signal * 0.3 * torch.sin(x)) / spread

    x = torch.randn(3, 1, 2, generator=torch.Generator().manual_seed(0))
    answers = [each.sample(network, x, torch.zeros_like) for each in (objective, theirs)]
    torch.testing.assert_close(answers[1], answers[0], atol=2e-3, rtol=0)  # at the first step 1 / alpha is thousands


def test_contenders_take_turns_and_a_slow_one_is_left_out_of_what_is_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def slow(bout: Bout) -> Contender:
        asked.append(bout.evaluations)
        return Contender(lambda: torch.zeros(20_000_000).sum(), 1)

    monkeypatch.setitem(CONTENDERS, "slow", slow)
    options = replace(OPTIONS, evaluations=(3, 1), contenders=("fermo", "slow"), patience=1e-4)
    rows = list(measure(options))
    assert asked == [1]
    assert [row.absent.startswith("one answer took") for row in rows] == [True] * 4
    (row,) = measure(replace(OPTIONS, contenders=("fermo",)))
    assert len(row.rounds_ms) == 2 and row.calls >= 2 and 0 < row.median_ms <= row.p99_ms
    assert row.parameters == sum(p.numel() for p in fermo_policy(BOUT).network.parameters())


def test_a_contender_that_is_not_there_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("fermo.benchmarks.latency_contenders.import_module", absent)
    options = replace(OPTIONS, contenders=("diffusers DDIM, fermo's network", "LeRobot"))
    told = [row.absent for row in measure(options)]
    assert told[0] == "diffusers is not installed: pip install 'fermo[latency]'"
    assert told[1].startswith("lerobot is not installed")


def _row(contender: str, *rounds: float, absent: str = "") -> LatencyRow:
    return LatencyRow(bout=BOUT, contender=contender, absent=absent, rounds_ms=rounds, median_ms=2.0, p99_ms=3.0)


def test_ratios_are_to_the_compiled_sampler_round_by_round_and_the_page_shows_them(tmp_path: Path) -> None:
    rows = (_row("fermo, compiled", 1.0, 2.0, 4.0), _row("fermo", 3.0, 6.0, 12.0), _row("LeRobot", absent="not there"))
    assert [ratio and float(ratio.value) for _, ratio in ratios(rows)] == [1.0, 3.0, None]
    assert "3.00 to 3.00" in table(rows) and "not there" in table(rows)
    write_json(tmp_path / "latency.json", PolicyLatency(
        command="python -m fermo.benchmarks.policy_latency", started="now", machine="a machine", threads=2,
        versions=("torch 2",), commit="", load=(0.0, 1.0), latency_rows=rows,
    ))  # fmt: skip
    text = page.markdown(tmp_path)
    assert "### block_push, batch 3, 2 evaluations" in text and "3.00 (3.00 to 3.00)" in text and "not there" in text


def test_options_are_checked() -> None:
    with pytest.raises(FermoError, match="positive"):
        replace(OPTIONS, rounds=0)
    with pytest.raises(FermoError, match="did you mean 'fermo'"):
        replace(OPTIONS, contenders=("fermi",))
    assert latency._all("cpu") == [name for name in CONTENDERS if "float16" not in name]
