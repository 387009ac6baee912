"""The token layout by what may depend on what, and the blocks against torch's own encoder layer."""

import pytest
import torch
from torch import nn

from fermo.errors import FermoError
from fermo.policies.beso.transformer import ActionTransformer
from fermo.policies.windowed.config import GoalSourceConfig, RelationsConfig, TransformerConfig
from fermo.policies.windowed.relations import Relations
from fermo.policies.windowed.transformer import INITIAL_STD, Block, Gpt
from fermo.signal import PlantSpec, Signal

CONFIG = TransformerConfig(layers=3, heads=2, width=32)
T, H, G = 4, 3, 2
OBSERVATION, ACTION = 5, 2
SPEC = PlantSpec(observations=(Signal.uniform(name="state", shape=(OBSERVATION,), unit="1"),),
                 commands=(Signal.uniform(name="command", shape=(ACTION,), unit="1"),), rate_hz=10.0)  # fmt: skip


def transformer(**changed) -> ActionTransformer:
    relations = Relations(RelationsConfig(), SPEC, GoalSourceConfig())
    sizes = {"relations": relations, "action_size": ACTION, "context": T, "chunk": H, "goal_frames": G,
             "goal_size": None, "level_per_action": True}  # fmt: skip
    made = ActionTransformer(CONFIG, **(sizes | changed), generator=torch.Generator().manual_seed(0))
    return made.double().eval()


def inputs(worlds: int = 2, context: int = T) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    actions = context + H - 1
    return {
        "actions": draw(worlds, actions, ACTION), "levels": draw(worlds, actions),
        "observations": draw(worlds, context, OBSERVATION), "goal": draw(worlds, G, OBSERVATION),
        "observed": torch.ones(worlds, context, dtype=torch.bool),
    }  # fmt: skip


def reach(name: str) -> torch.Tensor:
    """Which answers ``(A,)`` move with which rows of an input, ``(A, rows)`` bool."""
    given = inputs(1)
    given[name].requires_grad_(True)
    answers = transformer()(**given)[0].sum(-1)
    rows = [torch.autograd.grad(answer, given[name], retain_graph=True)[0][0] for answer in answers]
    return torch.stack([row.reshape(len(row), -1).abs().sum(-1) > 0 for row in rows])


def test_an_answer_depends_on_no_later_action_or_observation_and_on_every_goal():
    now = torch.arange(T + H - 1)
    assert torch.equal(reach("actions"), now[:, None] >= now)
    assert torch.equal(reach("observations"), now[:, None] >= now[:T]), "a_t sees s_t"
    assert reach("goal").all()
    levels = now[:, None] >= now
    levels[:, -1] = True  # the window's level, in the first token
    assert torch.equal(reach("levels"), levels)


def test_absent_observations_leave_a_shorter_context():
    """Padding on the left changes nothing: positions are counted from the first observation that is there."""
    model, full = transformer(), inputs()
    short = {name: value[:, 1:] if name in ("actions", "levels", "observations", "observed") else value
             for name, value in full.items()}  # fmt: skip
    padded = full | {"observed": full["observed"].clone()}
    padded["observed"][:, 0] = False
    torch.testing.assert_close(model(**padded)[:, 1:], model(**short))


def test_one_world_may_remember_less_than_another():
    model, given = transformer(), inputs()
    whole = model(**given)
    given["observed"][1, :2] = False
    torch.testing.assert_close(model(**given)[0], whole[0])
    assert not torch.allclose(model(**given)[1, T:], whole[1, T:])
    assert model(**given).isfinite().all()


def test_an_observation_and_its_action_share_a_position_and_sigma_has_none():
    model = transformer()
    assert model.positions.shape == (G + T + H - 1, CONFIG.width)
    with torch.no_grad():
        before = model(**inputs())
        model.positions[G + T - 1] += 1.0  # of s_T and a_T
        after = model(**inputs())
    moved = (before - after).abs().sum((0, 2)) > 0
    assert moved.tolist() == [False] * (T - 1) + [True] * H


def test_one_linear_layer_embeds_observations_and_future_goals():
    assert transformer().goal_embedding is None
    vector = transformer(goal_size=3, goal_frames=1).goal_embedding
    assert vector is not None and vector.in_features == 3


def test_a_block_is_torchs_pre_normalised_encoder_layer():
    width, heads = CONFIG.width, CONFIG.heads
    reference = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
    block = Block(CONFIG).eval()
    pairs = {
        "query_key_value.weight": reference.self_attn.in_proj_weight, "query_key_value.bias":
        reference.self_attn.in_proj_bias, "projection.weight": reference.self_attn.out_proj.weight, "projection.bias":
        reference.self_attn.out_proj.bias, "widen.weight": reference.linear1.weight, "widen.bias":
        reference.linear1.bias, "narrow.weight": reference.linear2.weight, "narrow.bias": reference.linear2.bias,
        "attention_norm.weight": reference.norm1.weight, "attention_norm.bias": reference.norm1.bias,
        "perceptron_norm.weight": reference.norm2.weight, "perceptron_norm.bias": reference.norm2.bias,
    }  # fmt: skip
    block.load_state_dict(pairs)
    x = torch.randn(2, 7, width, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(7, 7, dtype=torch.bool).tril()
    torch.testing.assert_close(block(x, mask), reference.eval()(x, src_mask=~mask), atol=1e-5, rtol=1e-5)


def test_initial_weights_are_normal_of_deviation_a_fiftieth_and_come_from_the_generator():
    before = torch.get_rng_state()
    first, second = transformer(), transformer()
    assert torch.equal(torch.get_rng_state(), before)
    for (name, value), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(value, other)
        if name.endswith("bias"):
            assert (value == 0).all()
        elif value.numel() > 1000:
            assert float(value.detach().std()) == pytest.approx(INITIAL_STD, rel=0.1)
            assert float(value.detach().mean()) == pytest.approx(0.0, abs=2e-3)


def test_weight_decay_spares_biases_positions_and_normalisations():
    model = transformer()
    spared = {id(parameter) for parameter in model.undecayed()}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in spared}
    matrices = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert names == {name for name, _ in model.named_parameters()} - matrices
    assert "positions" in names and "gpt.blocks.0.attention_norm.weight" in names and "head.bias" in names


def test_the_stack_is_usable_without_the_layout():
    tokens = torch.randn(2, 6, CONFIG.width)
    for module in (gpt := Gpt(CONFIG).eval()).modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.1)
            nn.init.zeros_(module.bias)
    present = torch.ones(2, 6, dtype=torch.bool)
    out = gpt(tokens, present)
    tokens[:, 4] += 1
    assert torch.equal(gpt(tokens, present)[:, :4], out[:, :4])


@pytest.mark.parametrize(
    ("changed", "problem"),
    [({"heads": 3}, "3 do not divide"), ({"layers": 0}, "layers must be"), ({"residual_dropout": 1.0}, r"\[0, 1\)")],
)
def test_a_size_that_cannot_be_built_is_refused(changed: dict, problem: str):
    with pytest.raises(FermoError, match=problem):
        TransformerConfig(**({"width": 128} | changed))
