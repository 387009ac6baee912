"""The perceptron under BESO: the same windows as the transformer's, and an action distribution that it can learn."""

import pytest
import torch

from fermo.errors import FermoError
from fermo.policies.beso.config import BesoConfig, DiffusionConfig, GoalConfig
from fermo.policies.beso.perceptron import ActionPerceptron
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.windowed.config import GoalSourceConfig, PerceptronConfig, RelationsConfig
from fermo.policies.windowed.relations import Relations
from fermo.training.loops.bc import train_bc
from fermo.training.loops.bc_config import BcConfig
from tests.policies.beso_policies import SPEC, data, observations

T, H = 3, 2
SIZE = PerceptronConfig(hidden=(64, 64), activation="relu")


def perceptron() -> ActionPerceptron:
    relations = Relations(RelationsConfig(), SPEC, GoalSourceConfig(kind="future"))
    return ActionPerceptron(SIZE, relations=relations, action_size=2, context=T, chunk=H, goal_frames=1, goal_size=None,
                            generator=torch.Generator().manual_seed(0))  # fmt: skip


def test_a_short_window_is_one_whose_first_observations_are_absent():
    generator = torch.Generator().manual_seed(1)
    actions, levels, seen, goal = (torch.randn(5, *shape, generator=generator)
                                   for shape in ((T + H - 1, 2), (T + H - 1,), (T, 3), (1, 3)))  # fmt: skip
    observed = torch.ones(5, T, dtype=torch.bool)
    observed[:, 0] = False
    made = perceptron()
    whole = made(actions, levels, seen, observed, goal)
    short = made(actions[:, 1:], levels[:, 1:], seen[:, 1:], observed[:, 1:], goal)
    assert whole.shape == (5, T + H - 1, 2) and short.shape == (5, T + H - 2, 2)
    torch.testing.assert_close(whole[:, 1:], short)
    actions[:, 0] += 1e3  # before the first observation, so it is none
    torch.testing.assert_close(made(actions, levels, seen, observed, goal), whole)


def test_every_answer_hangs_on_the_goal_the_levels_and_the_observations():
    given = [torch.zeros(1, T + H - 1, 2), torch.zeros(1, T + H - 1), torch.zeros(1, T, 3)]
    observed, goal = torch.ones(1, T, dtype=torch.bool), torch.ones(1, 1, 3)
    inputs = [part.requires_grad_(True) for part in (*given, goal)]
    made = perceptron()
    for action in made(*given, observed, goal)[0]:
        gradients = torch.autograd.grad(action.sum(), inputs, retain_graph=True)
        assert all(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("objective", ["edm", "ddpm", "flow"])
def test_it_learns_a_mean_and_a_deviation(objective):
    """Actions are normal with mean 3 and deviation 2, whatever is observed."""
    steps = DiffusionConfig(steps=40)  # three would narrow it
    config = BesoConfig(backbone="perceptron", perceptron=SIZE, context=1, objective=objective, diffusion=steps)
    policy = BesoPolicy(SPEC, config)
    train_bc(policy, *data(4000), config=BcConfig(steps=400, batch_size=512, ema_decay=0.99, warmup_steps=20))
    actions = policy.select_action(observations(2000))
    assert (actions.mean(0) - 3.0).abs().max() < 0.25
    assert (actions.std(0) - 2.0).abs().max() < 0.4


def test_goals_and_chunks_go_with_it():
    config = BesoConfig(backbone="perceptron", perceptron=SIZE, context=T, chunk=H, goal=GoalConfig(kind="future"))
    policy = BesoPolicy(SPEC, config)
    policy.fit_normalization(*data())
    policy.set_goal(torch.ones(3))
    told = policy.eval().predict_action_chunk(observations())
    policy.set_goal(None)
    assert told.shape == (5, H, 2) and not torch.equal(told, policy.predict_action_chunk(observations()))


def test_an_unknown_backbone_is_refused():
    with pytest.raises(FermoError, match="perceptron"):
        BesoConfig(backbone="unet")  # type: ignore[arg-type]
