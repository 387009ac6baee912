"""Counter-based randomness: known answers, moments, and no dependence on batch size or order."""

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from fermo.envs.core import host
from fermo.envs.core.random import WorldRandom, philox4x32

ONES = (0xFFFFFFFF,) * 4
# From the test vectors published with Random123 (philox4x32, 10 rounds).
KNOWN_ANSWERS = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (ONES, ONES[:2], (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)
WORLDS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=12, unique=True)
DRAWS = ("uniform", "normal")


def make(seed, worlds, episode):
    return WorldRandom(seed, torch.tensor(worlds), torch.tensor(episode))


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_published_words(counter, key, words):
    result = philox4x32(np.array(counter, np.uint64)[:, None], np.array(key, np.uint64)[:, None])
    assert result[:, 0].tolist() == list(words)


@settings(max_examples=40, deadline=None)
@given(WORLDS, st.integers(0, 2**32 - 1), st.sampled_from(DRAWS), st.integers(0, 9), st.booleans())
def test_a_device_draws_what_the_host_draws(worlds, seed, draw, count, one_step):
    pytest.importorskip("warp")
    steps = 3 if one_step else torch.tensor([(world * 7) % 2**33 for world in worlds])
    random = make(seed, worlds, [world % 5 for world in worlds])
    expected = getattr(random, draw)("use", (count,), step=steps)
    with mock.patch.object(host, "on_host", lambda tensor: False):
        assert torch.equal(getattr(random, draw)("use", (count,), step=steps), expected)


@settings(max_examples=40, deadline=None)
@given(WORLDS, st.integers(0, 2**32 - 1), st.randoms(), st.sampled_from(DRAWS), st.integers(0, 9))
def test_a_world_draws_the_same_in_any_batch_and_order(worlds, seed, shuffle, draw, count):
    episodes = [world % 7 for world in worlds]
    steps = torch.tensor([world % 11 for world in worlds])
    together = getattr(make(seed, worlds, episodes), draw)("use", (count,), step=steps)
    order = list(range(len(worlds)))
    shuffle.shuffle(order)
    subset = order[: max(1, len(order) // 2)]
    part = make(seed, [worlds[k] for k in subset], [episodes[k] for k in subset])
    assert torch.equal(getattr(part, draw)("use", (count,), step=steps[subset]), together[subset])
    alone = make(seed, worlds[:1], episodes[:1])
    one = getattr(alone, draw)("use", (count,), step=int(steps[0]))
    assert torch.equal(one[0], together[0])


@pytest.mark.parametrize("draw", DRAWS)
def test_seed_world_episode_use_and_step_each_give_other_numbers(draw):
    base = {"seed": 1, "world": 2, "episode": 3, "use": "a", "step": 4}
    changes = ({}, {"seed": 9}, {"world": 9}, {"episode": 9}, {"use": "b"}, {"step": 9})
    changed = [base | change for change in changes]
    rows = [
        getattr(make(c["seed"], [c["world"]], [c["episode"]]), draw)(c["use"], (4,), step=c["step"])[0] for c in changed
    ]
    assert len({tuple(row.tolist()) for row in rows}) == len(rows)


def test_drawing_does_not_change_what_is_drawn_next():
    random = make(3, [0, 1], [0, 0])
    first = random.normal("noise", (5,))
    random.uniform("other", (100,))
    assert torch.equal(random.normal("noise", (5,)), first)


@pytest.mark.parametrize(("draw", "distribution"), (("uniform", "uniform"), ("normal", "norm")))
def test_numbers_have_their_distribution_and_are_uncorrelated(draw, distribution):
    numbers = getattr(make(11, list(range(8000)), [0] * 8000), draw)("moments", (5,)).numpy()
    for column in numbers.T:
        assert kstest(column, distribution).pvalue > 1e-4
    assert np.abs(np.corrcoef(numbers, rowvar=False) - np.eye(5)).max() < 5 / np.sqrt(8000)
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 5 / np.sqrt(8000)


def test_uniform_keeps_its_bounds_shape_and_type():
    numbers = make(0, list(range(1000)), [0] * 1000).uniform("b", (2, 3), low=-2.0, high=5.0, dtype=torch.float32)
    assert numbers.shape == (1000, 2, 3)
    assert numbers.dtype == torch.float32
    assert -2.0 <= float(numbers.min()) < -1.9
    assert 4.9 < float(numbers.max()) <= 5.0
    assert make(0, [5], [0]).uniform("scalar").shape == (1,)
