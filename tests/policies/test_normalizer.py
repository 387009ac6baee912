import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fermo.errors import FermoError
from fermo.policies.normalizer import UNIT_FLOORS, Normalizer
from tests.policies.plants import SPEC, demonstrations

SETTINGS = settings(max_examples=30, deadline=None)


def fitted(data: torch.Tensor) -> Normalizer:
    normalizer = Normalizer(SPEC.observations)
    normalizer.fit(data)
    return normalizer


@SETTINGS
@given(st.integers(0, 2**31), st.floats(1e-3, 1e3), st.floats(-100, 100), st.integers(1, 40))
def test_inverse_undoes_forward(seed: int, scale: float, offset: float, samples: int):
    data = scale * torch.randn(samples, 17, generator=torch.Generator().manual_seed(seed)) + offset
    normalizer = fitted(data)
    tolerance = 1e-5 * float(data.abs().max() + normalizer.std.max())
    assert torch.allclose(normalizer.inverse(normalizer(data)), data, atol=tolerance)
    assert torch.allclose(normalizer(normalizer.inverse(data)), data, atol=1e-3 * (scale + abs(offset) + 1), rtol=1e-2)


@SETTINGS
@given(st.integers(0, 2**31))
def test_fitted_data_have_zero_mean_and_unit_spread(seed: int):
    normalized = fitted(data := demonstrations(200, seed)[0])(data)
    assert torch.allclose(normalized.mean(0), torch.zeros(17), atol=1e-4)
    assert torch.allclose(normalized.std(0, correction=0), torch.ones(17), atol=1e-3)


def test_a_constant_channel_is_divided_by_its_units_floor():
    data = demonstrations(100)[0]
    data[:, 12] = 0.2
    normalizer = fitted(data)
    assert normalizer.std[12] == pytest.approx(UNIT_FLOORS["m"])
    assert normalizer(data)[:, 12].abs().max() < 1e-3


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_not_finite_is_refused_by_name(bad: float):
    data = demonstrations(10)[0]
    data[7, 13] = bad
    with pytest.raises(FermoError, match=r"sample 7 of 'cube_position' is"):
        fitted(data)


def test_empty_and_misshapen_data_are_refused():
    with pytest.raises(FermoError, match="at least one sample"):
        fitted(torch.empty(0, 17))
    with pytest.raises(FermoError, match=r"\(M, 17\), got \(3, 5\)"):
        fitted(torch.zeros(3, 5))


def test_refused_data_leave_the_normaliser_as_it_was():
    normalizer = fitted(demonstrations()[0])
    mean = normalizer.mean.clone()
    with pytest.raises(FermoError):
        normalizer.fit(torch.full((2, 17), torch.nan))
    assert torch.equal(normalizer.mean, mean)
