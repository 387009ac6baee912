import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fermo.errors import FermoError
from fermo.policies.lipschitz_bc.cayley import cayley
from fermo.policies.network import GroupSort
from fermo.policies.registry import config_class, make_policy, policy_class
from tests.policies.plants import SPEC


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 24), st.integers(1, 24), st.floats(0.01, 100.0), st.integers(0, 2**31))
def test_cayley_rows_or_columns_are_orthonormal(rows: int, columns: int, scale: float, seed: int):
    free = scale * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weight = cayley(free)
    assert weight.shape == free.shape
    gram = weight @ weight.T if rows < columns else weight.T @ weight
    assert torch.allclose(gram, torch.eye(len(gram), dtype=torch.float64), atol=1e-8)


def test_cayley_gradient_agrees_with_finite_differences():
    for shape in ((5, 3), (3, 5), (4, 4)):
        free = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(cayley, free)


def test_group_sort_sorts_pairs_and_keeps_norms():
    value = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    first, second = GroupSort()(value).chunk(2, -1)
    pairs = torch.stack(value.chunk(2, -1)).sort(0, descending=True).values
    assert torch.allclose(torch.stack((first, second)), pairs, atol=1e-6)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"gamma": 0.0}, "gamma must be positive"),
        ({"gamma": float("nan")}, "gamma must be positive"),
        ({"hidden": (31,)}, "must be even"),
        ({"hidden": ()}, "at least one"),
        ({"activation": "swish"}, "choose from relu"),
        ({"loss": "l3"}, "choose from mse"),
        ({"input_weights": {"cube_position": -1.0}}, r"input_weights\[cube_position\]"),
        ({"output_weights": {"joint_target": 0.0}}, r"output_weights\[joint_target\] must be positive"),
        ({"construction": "householder"}, "choose from cayley, sandwich, penalised"),
        ({"construction": "sandwich"}, "acts element by element, which groupsort does not"),
        ({"construction": "penalised", "gamma_weight": 0.1}, "keeps no fixed bound: set gamma to None"),
        ({"gamma": None}, "not neither"),
        ({"gamma_weight": 0.1}, "not both"),
        ({"gamma": None, "gamma_weight": 0.0}, "gamma_weight must be positive"),
        ({"slope_bounds": {"joint_target": 1.0}}, "'command/observation', got 'joint_target'"),
        ({"slope_bounds": {"a/b": 1.0}, "input_weights": {"b": 2.0}}, "give one of them"),
        ({"slope_bounds": {"a/b": -1.0}}, r"slope_bounds\[a/b\] must be positive"),
        ({"slope_bounds": {"a/b": 1.0}, "gamma": None, "gamma_weight": 1.0}, "kept by a fixed gamma"),
    ],
)
def test_bad_settings_are_refused(settings_: dict, message: str):
    with pytest.raises(FermoError, match=message):
        config_class("lipschitz_bc")(**settings_)


def test_names_the_plant_does_not_have_are_refused():
    kind = config_class("lipschitz_bc")
    with pytest.raises(FermoError, match="did you mean 'cube_position'"):
        make_policy("lipschitz_bc", SPEC, kind(input_weights={"cube_positon": 0.5}))
    with pytest.raises(FermoError, match="did you mean 'joint_target'"):
        make_policy("lipschitz_bc", SPEC, kind(output_weights={"joint_targt": 0.5}))
    with pytest.raises(FermoError, match="did you mean 'cube_heading'"):
        make_policy("lipschitz_bc", SPEC, kind(slope_bounds={"joint_target/cube_headin": 0.5}))
    with pytest.raises(FermoError, match="must exceed 1: action_base alone has that slope"):
        bounds = {"joint_target/joint_position": 0.9}
        make_policy("lipschitz_bc", SPEC, kind(action_base="joint_position", slope_bounds=bounds))
    with pytest.raises(FermoError, match=r"action_base 'cube_position' .* it is 3 x m"):
        make_policy("lipschitz_bc", SPEC, kind(action_base="cube_position"))
    with pytest.raises(FermoError, match="did you mean 'lipschitz_bc'"):
        policy_class("lipshitz_bc")
