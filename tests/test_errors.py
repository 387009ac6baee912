"""An unknown name is answered with the nearest one and with everything there is."""

import hypothesis.strategies as st
from hypothesis import given, settings

from fermo.errors import FermoError, unknown_name

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)


def test_the_nearest_name_is_suggested() -> None:
    error = unknown_name("task", "so101-pickcub", ("SO101-Reach", "SO101-PickCube"))
    assert isinstance(error, FermoError)
    assert str(error) == (
        "unknown task 'so101-pickcub': did you mean 'SO101-PickCube'? choose from SO101-PickCube, SO101-Reach"
    )


def test_nothing_is_suggested_when_nothing_is_near() -> None:
    assert str(unknown_name("robot", "xyz", {"so101": 1})) == "unknown robot 'xyz': choose from so101"


@settings(max_examples=80, deadline=None)
@given(kind=WORDS, name=WORDS, choices=st.lists(WORDS, max_size=5))
def test_it_is_one_line_that_names_every_choice(kind: str, name: str, choices: list[str]) -> None:
    message = str(unknown_name(kind, name, choices))
    assert "\n" not in message
    assert repr(name) in message
    assert all(choice in message for choice in choices)
    if name in choices:
        assert f"did you mean {name!r}?" in message
