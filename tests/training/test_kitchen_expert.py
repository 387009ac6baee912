"""The expert of FrankaKitchen: each skill does its sub-task, orders are the chain's, and what is recorded is judged."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from fermo.cli import main
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.tasks import franka_kitchen_metrics as metrics
from fermo.envs.tasks.franka_kitchen import START_QPOS, FrankaKitchen, FrankaKitchenConfig
from fermo.errors import FermoError
from fermo.training.data.reader import Dataset
from fermo.training.demos.kitchen_chain import START, TRANSITIONS, draw_orders, order_probabilities, transition_shares
from fermo.training.demos.kitchen_curation import SEQUENCE_COLUMN, KitchenCuration, order_name, orders_of
from fermo.training.demos.kitchen_expert import KitchenCook, KitchenExpert, KitchenExpertConfig
from fermo.training.demos.record import Episodes, record_episodes

EVERYTHING = range(len(metrics.SUBTASKS))


def cook(subtasks: list[int], variants: list[int], steps: int) -> Tensor:
    """Steps after which each world has done its one sub-task, 0 for never, ``(N, 7)``."""
    task = FrankaKitchen()
    env = VectorEnv(task, len(subtasks), seed=3, autoreset_mode=AutoresetMode.DISABLED,
                    backend_options={"num_threads": 1})  # fmt: skip
    obs, _ = env.reset()
    expert = KitchenExpert(task, KitchenExpertConfig(miss_share=0.0, attempts=1))
    act = KitchenCook(expert, torch.tensor(subtasks)[:, None], env.random)
    act.variants[:, 0] = torch.tensor(variants)
    for _ in range(steps):
        action = act(obs)
        assert action.abs().max() <= 1.0
        obs, *_ = env.step(action)
        if act.idle.all():
            break
    return env.sim.sensors["finishes"].steps


def test_skills_do_their_sub_tasks_and_no_other() -> None:
    """One variant each of those that take little time."""
    subtasks = [metrics.KETTLE, metrics.TOP_BURNER, metrics.LIGHT_SWITCH]
    finishes = cook(subtasks, [1, 1, 0], steps=58)
    assert torch.equal(finishes > 0, torch.nn.functional.one_hot(torch.tensor(subtasks), 7).bool())


def test_an_episode_does_not_depend_on_how_many_there_are() -> None:
    task = FrankaKitchen(FrankaKitchenConfig(episode_s=0.64))
    few, many = (record_episodes(task, KitchenExpert(task), episodes=n, seed=5, num_threads=1) for n in (2, 5))
    assert torch.equal(few.observations, many.observations[:2]) and torch.equal(few.actions, many.actions[:2])


@pytest.mark.slow
def test_every_skill_works_both_ways() -> None:
    subtasks, variants = zip(*itertools.product(EVERYTHING, (0, 1)), strict=True)
    finishes = cook(list(subtasks), list(variants), steps=120)
    done = finishes.gather(1, torch.tensor(subtasks)[:, None])[:, 0] > 0
    assert done.sum() >= len(subtasks) - 1
    assert (finishes > 0).sum() == done.sum()


@pytest.fixture(scope="module")
def made() -> Episodes:
    task = FrankaKitchen()
    return record_episodes(task, KitchenExpert(task), episodes=12, seed=5)


@pytest.mark.slow
def test_most_demonstrations_succeed_in_the_order_that_was_drawn(made: Episodes) -> None:
    kept = KitchenCuration().keep(FrankaKitchen(), made, 9, 5)
    drawn = draw_orders(WorldRandom.first_episodes(5, 12))
    shown = {tuple(order) for order in orders_of(kept.columns[SEQUENCE_COLUMN]).tolist()}
    assert shown <= {tuple(order) for order in drawn.tolist()}
    assert 140 < kept.lengths.double().median() <= 280


@pytest.mark.slow
def test_recording_keeps_successes_with_their_sequences(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "d"
    main(["record", "FrankaKitchen", "--episodes", "3", "--recoveries", "3", "--folder", str(folder)])
    told, dataset = capsys.readouterr().out, Dataset.open(folder)
    assert "3 demonstrations" in told and "3 recoveries" in told and "hinge cabinet" in told and " -> " in told
    assert dataset.episodes == 6 and dataset.success.all() and dataset.lengths.max() <= 280
    last = np.cumsum(dataset.lengths) - 1
    sequences = torch.from_numpy(dataset.extras[SEQUENCE_COLUMN][last])
    ends = metrics.distances(torch.from_numpy(dataset.observations[last]).double())
    assert sequences.shape == (6, 28)
    assert (ends.gather(1, orders_of(sequences)) < 0.3).double().mean() > 0.9


@pytest.mark.parametrize("wrong", [{"speed": 0.0}, {"speed_spread": 1.0}, {"attempts": 0}, {"miss_share": -0.1}])
def test_configs_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(FermoError, match=next(iter(wrong))):
        KitchenExpertConfig(**wrong)


def test_the_chain_is_stochastic_and_never_comes_back() -> None:
    assert sum(START.values()) == pytest.approx(1.0)
    for name, follow in TRANSITIONS.items():
        assert name not in follow and (not follow or sum(follow.values()) == pytest.approx(1.0)), name
    orders, probability = order_probabilities()
    assert float(probability.sum()) == pytest.approx(1.0)
    assert all(len(set(order)) == 4 for order in orders.tolist())
    assert not (orders[:, :3] == metrics.HINGE_CABINET).any()
    assert set(orders.flatten().tolist()) == set(EVERYTHING)


def test_orders_are_drawn_as_often_as_the_chain_conditioned_on_not_coming_back() -> None:
    """By rejection: walk the chain, begin anew where it stops early or returns."""
    generator = np.random.default_rng(0)
    names, counts = metrics.NAMES, np.zeros((8, 7))
    kept = 0
    while kept < 2000:
        walk: list[str] = []
        while len(walk) < 4 and (follow := TRANSITIONS[walk[-1]] if walk else START):
            walk.append(str(generator.choice(list(follow), p=list(follow.values()))))
        if len(set(walk)) == 4:
            kept += 1
            for before, after in itertools.pairwise([None, *walk]):
                counts[7 if before is None else names.index(before), names.index(str(after))] += 1
    orders, probability = order_probabilities()
    exact = transition_shares(orders, probability).numpy()
    assert np.abs(counts / kept - exact).max() < 0.05
    drawn = draw_orders(WorldRandom.first_episodes(0, 20_000))
    often = transition_shares(drawn, torch.ones(len(drawn), dtype=torch.float64)).numpy()
    assert np.abs(often - exact).max() < 0.015


def acted(orders: Tensor, when: Tensor, steps: int = 40) -> Episodes:
    """Episodes in which sub-task `orders[i, k]` comes to its goal at observation `when[i, k]`."""
    n = len(orders)
    observations = torch.tensor(START_QPOS).repeat(n, steps, 1)
    for i, k in itertools.product(range(n), range(orders.shape[1])):
        subtask = metrics.SUBTASKS[int(orders[i, k])]
        observations[i, int(when[i, k]) :, slice(*subtask.elements)] = torch.tensor(subtask.goal)
    return Episodes(observations=observations, actions=torch.zeros(n, steps, 9), lengths=torch.full((n,), steps),
                    success=torch.ones(n, dtype=torch.bool))  # fmt: skip


def test_what_is_kept_did_what_was_drawn_and_ends_when_it_is_done() -> None:
    drawn = draw_orders(WorldRandom.first_episodes(2, 4))
    when = torch.tensor([[3, 9, 14, 20]]).repeat(4, 1)
    done = drawn.clone()
    done[1] = drawn[1].flip(0)  # another order
    when[2, 3] = 38  # at the very end
    made = acted(done, when)
    extra = next(number for number in EVERYTHING if number not in drawn[3].tolist())
    made.observations[3, 25:, slice(*metrics.SUBTASKS[extra].elements)] = torch.tensor(metrics.SUBTASKS[extra].goal)
    kept = KitchenCuration().keep(FrankaKitchen(), made, 2, 2)
    assert kept.lengths.tolist() == [25, 40]  # observations 0 to 20, and four steps more if there are
    assert torch.equal(orders_of(kept.columns[SEQUENCE_COLUMN]), drawn[[0, 2]]) and kept.success.all()
    with pytest.raises(FermoError, match=r"only 2 of 4 attempts .* succeeded, 3 are needed"):
        KitchenCuration().keep(FrankaKitchen(), made, 3, 2)


def recorded(orders: Tensor) -> Episodes:
    columns = {SEQUENCE_COLUMN: metrics.one_hot(orders).flatten(1)}
    few = acted(orders[:1], torch.ones(1, 4, dtype=torch.int64), steps=2)
    return replace(few, lengths=torch.full((len(orders),), 200), columns=columns)


def test_the_mix_of_orders_is_judged() -> None:
    task, curation = FrankaKitchen(), KitchenCuration()
    drawn = draw_orders(WorldRandom.first_episodes(0, 566))
    facts = curation.review(task, recorded(drawn))
    most = order_name(drawn.mode(dim=0).values)
    assert sum(facts[name] for name in metrics.NAMES) == 4 * 566 and facts["steps in the median"] == 200
    assert sum(count for name, count in facts.items() if " -> " in name) == 566 and " -> " in most
    never = drawn.clone()
    never[7] = torch.tensor([metrics.HINGE_CABINET, metrics.MICROWAVE, metrics.KETTLE, metrics.LIGHT_SWITCH])
    with pytest.raises(FermoError, match="the chain never shows hinge cabinet -> microwave -> kettle -> light switch"):
        curation.review(task, recorded(never))
    shifted = torch.where((drawn[:, :1] == metrics.KETTLE), drawn[drawn[:, 0] == metrics.MICROWAVE][:1], drawn)
    with pytest.raises(FermoError, match=r"is not the chain's: .* points outside"):
        curation.review(task, recorded(shifted))
    assert curation.review(task, recorded(shifted[:100]))["steps in the median"] == 200  # too few to judge


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_566_demonstrations_are_the_benchmarks(tmp_path: Path) -> None:
    """Orders are judged by the recorder itself, on the seed that is its default; half an hour of one core."""
    folder = tmp_path / "d"
    main(["record", "FrankaKitchen", "--episodes", "566", "--folder", str(folder)])
    assert Dataset.open(folder).episodes == 566
