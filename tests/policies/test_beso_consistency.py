"""A consistency function is where the probability-flow ODE ends, in closed form for normal data."""

import math

import pytest
import torch
from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.policies.beso.config import BesoConfig, DiffusionConfig
from fermo.policies.beso.consistency import Consistency
from tests.policies.beso_policies import STD, observations, policy

DIFFUSION = DiffusionConfig(steps=1, sigma_min=0.02, sigma_max=30.0, sigma_data=1.0)


def exact_end(x: Tensor, sigma: Tensor, mean: Tensor | float = 0.0, std: float = STD) -> Tensor:
    """The ODE keeps ``(x - mean) / sqrt(std^2 + sigma^2)``."""
    least = torch.tensor(DIFFUSION.sigma_min)
    return mean + (x - mean) * ((std**2 + least**2) / (std**2 + sigma**2)).sqrt()


class ExactConsistency(nn.Module):
    """F for which f is `exact_end`, around the scaled position."""

    def __init__(self, objective: Consistency) -> None:
        super().__init__()
        self.sigma_data = objective.sigma_data

    def forward(self, actions: Tensor, levels: Tensor, states: Tensor, observed: Tensor, goal: Tensor | None) -> Tensor:
        sigma, least = torch.exp(4 * levels)[..., None], DIFFUSION.sigma_min
        total = (sigma**2 + self.sigma_data**2).sqrt()
        skip = self.sigma_data**2 / ((sigma - least) ** 2 + self.sigma_data**2)
        out = (sigma - least) * self.sigma_data / total
        x = actions * total
        return torch.where(sigma > least + 1e-6, (exact_end(x, sigma, states[:, -1:, :2]) - skip * x) / out, 0.0)


def test_it_is_the_identity_at_the_lowest_level_and_on_clean_actions_whatever_the_network_says():
    objective, x = Consistency(DIFFUSION), torch.randn(4, 3, 2)
    for level in (0.0, DIFFUSION.sigma_min):
        torch.testing.assert_close(objective.end(x, torch.full_like(x, 9.0), torch.full((4, 3), level)), x)


def test_its_scales_are_those_of_edm_far_from_the_lowest_level():
    objective, level = Consistency(DIFFUSION), torch.tensor([30.0])
    skip, out = (float(objective.end(torch.tensor([[x]]), torch.tensor([[f]]), level)) for x, f in ((1, 0), (0, 1)))
    assert skip == pytest.approx(1 / (29.98**2 + 1)) and out == pytest.approx(29.98 / math.sqrt(901))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_one_evaluation_a_step_samples_the_exact_distribution(steps: int):
    config = DiffusionConfig(steps=steps, sigma_min=0.02, sigma_max=30.0, sigma_data=1.0)
    made = policy(context=1, objective="consistency", diffusion=config)
    assert isinstance(made.objective, Consistency)
    made.network = ExactConsistency(made.objective)  # type: ignore[assignment]
    obs = observations(1)
    acted = made.action_normalizer(made.select_action(obs.expand(4_000, -1)))
    torch.testing.assert_close(acted.mean(0), made.observation_normalizer(obs)[0, :2], atol=0.06, rtol=0)
    assert acted.std(0).tolist() == pytest.approx([STD, STD], rel=0.08)
    assert made.objective.evaluations() == steps and len(made.objective.levels()) == steps + 1


def test_levels_are_drawn_from_the_grid_and_followed_by_the_next_lower_one():
    objective = Consistency(DIFFUSION)
    objective.discretise(5)
    drawn = objective.draw_levels((1000,), torch.zeros(1))
    assert set(drawn.tolist()) == set(objective.grid[1:].tolist())
    for lower, level in zip(objective.grid, objective.grid[1:], strict=False):
        assert float(objective.following(level[None])) == float(lower)
    assert float(objective.following(torch.zeros(1))) == 0.0
    assert float(objective.grid[0]) == pytest.approx(0.02) and float(objective.grid[-1]) == pytest.approx(30.0)


def test_it_is_neither_trained_on_demonstrations_alone_nor_streamed():
    made = policy(objective="consistency")
    with pytest.raises(FermoError, match="fermo distill its checkpoint"):
        made({"observation": torch.zeros(2, 3), "action": torch.zeros(2, 2)})
    with pytest.raises(FermoError, match="leave stream out"):
        BesoConfig(objective="consistency", stream=True, noise_levels="streaming")
