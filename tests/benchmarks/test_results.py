"""Statistics against numbers worked out by hand, and results to JSON and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fermo.benchmarks import results, summary
from fermo.benchmarks.results import FORMAT, Comparison, Results, Round, Row, median, paired_ratio
from fermo.errors import FermoError
from fermo.training.files import read_json, write_json

RATES = st.lists(st.floats(1.0, 1e6), min_size=1, max_size=9)


def _row(name: str, steps: list[int], **more: object) -> Row:
    rounds = tuple(Round(env_steps=each, wall_s=0.5, cpu_s=1.0) for each in steps)
    return Row(contender=name, label=name, rounds=rounds, num_envs=4, **more)  # type: ignore[arg-type]


def _comparison(*rows: Row) -> Comparison:
    return Comparison(task="fermo/Hopper-v5", num_envs=4, threads=2, backend="cpu", device="cpu", physics="physics",
                      rows=rows, load_before=0.25, load_after=2.0)  # fmt: skip


def _results() -> Results:
    rows = (_row("fermo", [90, 100, 120], grown_bytes=8192), _row("raw", [100, 125, 120]),
            Row(contender="envpool", label="EnvPool", absent="not installed: pip install envpool"))  # fmt: skip
    return Results(format=FORMAT, command="fermo bench-speed Hopper", started="2026-01-01T00:00:00+00:00", cpu="a cpu",
                   cores=2, memory_gib=8.0, gpus=(), commit="", versions=("mujoco 3.17.0",), round_s=0.5,
                   comparisons=(_comparison(*rows),))  # fmt: skip


def test_rates_are_steps_over_wall_and_over_processor_time() -> None:
    row = _row("fermo", [90, 100])
    assert row.wall_rates.tolist() == [180.0, 200.0]
    assert row.cpu_rates.tolist() == [90.0, 100.0]


def test_median_and_ratio_by_hand() -> None:
    assert median(np.array([3.0, 1.0, 2.0])).value == 2.0
    # Rounds pair up: 90/100, 100/125, 120/120 have the median 0.9, while the ratio of medians is 100/120.
    found = paired_ratio(np.array([90.0, 100.0, 120.0]), np.array([100.0, 125.0, 120.0]))
    assert found.value == pytest.approx(0.9)
    assert found.low == pytest.approx(0.8)
    assert found.high == pytest.approx(1.0)


def test_a_slow_machine_cancels_in_paired_rounds() -> None:
    machine = np.array([1.0, 0.1, 0.5, 0.9])
    found = paired_ratio(3.0 * machine, 2.0 * machine)
    assert [float(limit) for limit in found] == pytest.approx([1.5, 1.5, 1.5])


def test_rounds_that_do_not_pair_are_refused() -> None:
    with pytest.raises(FermoError, match="one with one, got 2 and 3"):
        paired_ratio(np.ones(2), np.ones(3))


@given(RATES)
def test_the_interval_holds_the_median_and_stays_within_the_rounds(rates: list[float]) -> None:
    found = median(np.array(rates))
    assert min(rates) <= found.low <= found.value <= found.high <= max(rates)


@given(RATES, st.floats(0.01, 100.0))
def test_ratio_scales_with_the_first_and_against_the_second(rates: list[float], factor: float) -> None:
    first, second = np.array(rates), np.array(rates[::-1])
    base = paired_ratio(first, second).value
    assert paired_ratio(factor * first, second).value == pytest.approx(factor * base)
    assert paired_ratio(first, factor * second).value == pytest.approx(base / factor)


def test_lines_compare_everybody_with_fermo() -> None:
    comparison = _results().comparisons[0]
    fermo, raw, envpool = summary.lines(comparison)
    assert fermo.lead is None
    assert fermo.world_bytes == 2048
    assert raw.lead is not None
    assert raw.lead.value == pytest.approx(0.9)
    assert (envpool.rate, envpool.lead) == (None, None)
    share = summary.share_of_ceiling(comparison)
    assert share is not None
    assert share.value == pytest.approx(0.9)


def test_a_missing_peer_is_told_below_the_table() -> None:
    text = summary.text_table(_results().comparisons[0])
    assert text.splitlines()[-1] == "EnvPool: not installed: pip install envpool"
    assert "0.90" in text


def test_results_survive_the_disk(tmp_path: Path) -> None:
    results.save(tmp_path / "speed.json", _results())
    assert results.load(tmp_path / "speed.json") == _results()


def test_another_format_is_refused(tmp_path: Path) -> None:
    results.save(tmp_path / "speed.json", dataclasses.replace(_results(), format=FORMAT + 1))
    with pytest.raises(FermoError, match=f"has format {FORMAT + 1}, this fermo reads {FORMAT}"):
        results.load(tmp_path / "speed.json")


def test_a_round_without_steps_is_refused(tmp_path: Path) -> None:
    results.save(tmp_path / "speed.json", _results())
    data = read_json(tmp_path / "speed.json")
    data["comparisons"][0]["rows"][0]["rounds"][0]["env_steps"] = 0
    write_json(tmp_path / "speed.json", data)
    with pytest.raises(FermoError, match="a round makes steps and takes time"):
        results.load(tmp_path / "speed.json")
