"""Heads of `goal_bc` by themselves: likelihoods, bins and draws against closed forms and other libraries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch import distributions as D
from torch.nn import functional as F

from fermo.errors import FermoError
from fermo.policies.goal_bc.behavior_transformer import BehaviorTransformer, k_means
from fermo.policies.goal_bc.config import BehaviorTransformerConfig, GoalBcConfig, MixtureConfig
from fermo.policies.goal_bc.head import draw
from fermo.policies.goal_bc.mixture import Mixture
from fermo.policies.goal_bc.regression import Regression
from fermo.policies.windowed.world_noise import Noise, world_noise

ACTION = 2


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noise() -> Noise:
    """As a policy's memory gives it: by world and by draw."""
    draws = iter(range(2**31))
    return lambda like: world_noise(like, 7, torch.arange(len(like)), next(draws))


def mixture(chunk: int = 1, **chosen: float) -> Mixture:
    return Mixture(GoalBcConfig(head="mixture", chunk=chunk, mixture=MixtureConfig(**chosen)), ACTION)  # type: ignore


def behavior_transformer(seed: int = 0, **chosen: float) -> BehaviorTransformer:
    kept = BehaviorTransformerConfig(**chosen)  # type: ignore[arg-type]
    return BehaviorTransformer(GoalBcConfig(head="behavior_transformer", seed=seed, behavior_transformer=kept), ACTION)


def reference(head: Mixture, answers: Tensor) -> D.Distribution:
    logits, mu, sigma = head.components(answers)
    return D.MixtureSameFamily(D.Categorical(logits=logits), D.Independent(D.Normal(mu, sigma), 2))


# Drawing one of several


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6))
def test_alternatives_are_drawn_as_often_as_their_probabilities_say(logits: list[float]):
    """The distribution function is passed at u, so an even u gives shares exact to one over their number."""
    even = torch.special.ndtri((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)[:, None]
    values = torch.tensor([logits], dtype=torch.float64)
    chosen = draw(values.expand(2000, -1), lambda like: even)
    shares = torch.bincount(chosen, minlength=len(logits)) / 2000
    torch.testing.assert_close(shares.double(), values[0].softmax(-1), atol=1e-3, rtol=0)


def test_what_is_impossible_is_never_drawn():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(5000, -1)
    assert set(draw(logits, noise()).tolist()) == {1, 2}


# Regression


def test_regressions_error_is_the_mean_square_over_the_actions_there_are():
    head = Regression(GoalBcConfig(chunk=3), ACTION)
    answers, actions = numbers(4, 2, head.size), numbers(4, 2, 3, ACTION, seed=1)
    counted = torch.tensor([True, True, False]).expand(4, 2, 3)
    expected = (answers.reshape(4, 2, 3, ACTION) - actions)[:, :, :2].square().mean((2, 3))
    torch.testing.assert_close(head.errors(answers, actions, counted), expected)
    assert head.errors(answers, actions, torch.zeros(4, 2, 3, dtype=torch.bool)).isfinite().all()
    assert torch.equal(head.act(answers[:, 0], noise()), answers[:, 0].reshape(4, 3, ACTION))


# Mixture


@pytest.mark.parametrize("chunk", [1, 3])
def test_the_mixtures_error_is_torchs_negative_log_likelihood(chunk: int):
    head = mixture(chunk, components=4)
    answers, actions = 2 * numbers(5, 2, head.size), numbers(5, 2, chunk, ACTION, seed=1)
    counted = torch.ones(5, 2, chunk, dtype=torch.bool)
    torch.testing.assert_close(head.errors(answers, actions, counted), -reference(head, answers).log_prob(actions))


def test_actions_that_are_not_there_are_integrated_out():
    """A diagonal Gaussian's marginal is what remains of it."""
    head, short = mixture(3, components=4), mixture(2, components=4)
    answers, actions = numbers(5, 1, head.size), numbers(5, 1, 3, ACTION, seed=1)
    logits, means, widths = answers.split(head.parts, -1)
    first = [part.unflatten(-1, (4, 3, ACTION))[..., :2, :].flatten(-3) for part in (means, widths)]
    expected = short.errors(torch.cat([logits, *first], -1), actions[:, :, :2], torch.ones(5, 1, 2, dtype=torch.bool))
    counted = torch.tensor([True, True, False]).expand(5, 1, 3)
    torch.testing.assert_close(head.errors(answers, actions, counted), expected)


def test_a_mixture_draws_its_own_mean_and_covariance():
    head = mixture(components=3, spread=1.0)
    answers = 1.5 * numbers(1, head.size)
    chunks = head.act(answers.expand(20_000, -1), noise())
    drawn, expected = chunks[:, 0], reference(head, answers)
    torch.testing.assert_close(drawn.mean(0), expected.mean[0, 0], atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.var(0), expected.variance[0, 0], atol=0.0, rtol=0.05)


def test_a_mixture_without_spread_answers_with_its_components_means():
    head = mixture(components=3, spread=0.0)
    answers = numbers(1, head.size)
    means = head.components(answers)[1][0, :, 0]
    drawn = head.act(answers.expand(500, -1), noise())[:, 0]
    nearest = torch.cdist(drawn, means).min(1)
    assert float(nearest.values.max()) == 0.0 and len(nearest.indices.unique()) == 3


def test_a_component_is_never_narrower_than_asked():
    head = mixture(components=2, min_std=0.05)
    assert float(head.components(torch.full((1, head.size), -1e4))[2].min()) == pytest.approx(0.05)


# Bins and offsets


def clusters(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Centres far apart, and 60 points within 0.1 of each."""
    centres = torch.tensor([[-3.0, -3.0], [3.0, -3.0], [-3.0, 3.0], [3.0, 3.0], [0.0, 0.0]])
    around = 0.2 * torch.rand(5, 60, 2, generator=torch.Generator().manual_seed(seed)) - 0.1
    return centres, (centres[:, None] + around).flatten(0, 1)


@pytest.mark.parametrize("seed", range(5))
def test_k_means_gives_each_separated_cluster_its_mean_and_its_points(seed: int):
    centres, points = clusters()
    head = behavior_transformer(seed, bins=5)
    head.fit(points)
    bins = head.bins_of(points).reshape(5, 60)
    assert (bins == bins[:, :1]).all() and len(bins[:, 0].unique()) == 5
    torch.testing.assert_close(head.centres[bins[:, 0]], points.reshape(5, 60, 2).mean(1))
    assert float((head.centres[bins[:, 0]] - centres).abs().max()) < 0.1


def test_k_means_repeats_itself_and_leaves_numpys_global_state_alone():
    points, before = numbers(400, ACTION).double().numpy(), repr(np.random.get_state())  # noqa: NPY002
    first, again, other = k_means(points, 12, 0), k_means(points, 12, 0), k_means(points, 12, 1)
    assert repr(np.random.get_state()) == before  # noqa: NPY002
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_more_bins_than_distinct_actions_are_refused():
    with pytest.raises(FermoError, match="64 bins need as many distinct actions, the demonstrations have 2"):
        behavior_transformer().fit(torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(100, 1))


def certain(head: BehaviorTransformer, actions: Tensor) -> Tensor:
    """The answers of a network that knows each action, ``(M, n)``."""
    bins = head.bins_of(actions)
    logits = 50 * F.one_hot(bins, len(head.centres)).float()
    offsets = numbers(len(actions), len(head.centres), ACTION)
    offsets[torch.arange(len(actions)), bins] = actions - head.centres[bins]
    return torch.cat([logits, offsets.flatten(1)], 1)


def test_a_bin_and_its_offset_make_up_the_action_and_leave_no_error():
    head, actions = behavior_transformer(bins=8), numbers(300, ACTION)
    head.fit(actions)
    answers = certain(head, actions)
    torch.testing.assert_close(head.act(answers, noise())[:, 0], actions)
    errors = head.errors(answers[:, None], actions[:, None, None], torch.ones(300, 1, 1, dtype=torch.bool))
    assert float(errors.abs().max()) < 1e-10


@pytest.mark.parametrize("focal", [0.0, 2.0])
def test_the_bins_error_is_the_focal_loss_and_the_offsets_only_that_of_the_right_bin(focal: float):
    head, actions = behavior_transformer(bins=8, focal=focal, offset_weight=3.0), numbers(300, ACTION)
    head.fit(actions)
    answers = numbers(300, head.size, seed=2)
    bins = head.bins_of(actions)
    entropy = F.cross_entropy(answers[:, :8], bins, reduction="none")
    offset = answers[:, 8:].reshape(300, 8, ACTION)[torch.arange(300), bins]
    squared = (head.centres[bins] + offset - actions).square().mean(-1)
    expected = (1 - (-entropy).exp()) ** focal * entropy + 3.0 * squared
    errors = head.errors(answers[:, None], actions[:, None, None], torch.ones(300, 1, 1, dtype=torch.bool))
    torch.testing.assert_close(errors[:, 0], expected)


def test_certainty_leaves_a_finite_slope():
    head, actions = behavior_transformer(bins=4, focal=1.0), numbers(50, ACTION)
    head.fit(actions)
    answers = (1e4 * certain(head, actions)).requires_grad_(True)
    head.errors(answers[:, None], actions[:, None, None], torch.ones(50, 1, 1, dtype=torch.bool)).sum().backward()
    assert answers.grad is not None and answers.grad.isfinite().all()


# Settings


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: MixtureConfig(components=0), "components must be at least 1"),
        (lambda: MixtureConfig(min_std=0.0), "min_std must be positive"),
        (lambda: MixtureConfig(spread=-0.1), r"spread must lie in \[0, 1\]"),
        (lambda: MixtureConfig(spread=math.nan), r"spread must lie in \[0, 1\]"),
        (lambda: BehaviorTransformerConfig(bins=0), "bins must be at least 1"),
        (lambda: BehaviorTransformerConfig(focal=0.5), "focal must be 0 or at least 1"),
        (lambda: BehaviorTransformerConfig(offset_weight=0), "offset_weight must be positive"),
        (lambda: GoalBcConfig(head="behavior_transformer", chunk=2), "bins single actions: give chunk 1"),
        (lambda: GoalBcConfig(head="gmm"), "unknown head 'gmm'.*mixture"),  # type: ignore[arg-type]
        (lambda: GoalBcConfig(backbone="mlp"), "unknown backbone 'mlp'"),  # type: ignore[arg-type]
        (lambda: GoalBcConfig(context=0), "context must be at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, problem: str):
    with pytest.raises(FermoError, match=problem):
        make()
