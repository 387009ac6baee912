import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fermo.errors import FermoError
from fermo.policies import checkpoint as checkpoint_module
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.policies.checkpoint_header import read_header, read_spec
from tests.policies.plants import SPEC, demonstrations, fitted_policy

FILES = ("config.json", "model.safetensors", "signals.json")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "checkpoint"
    return save_checkpoint(fitted_policy("lipschitz_bc"), folder, extra={"note": 7})


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "checkpoint")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    family=st.sampled_from(["mlp_bc", "lipschitz_bc"]), width=st.integers(1, 12), depth=st.integers(1, 3),
    activation=st.sampled_from(["relu", "tanh", "groupsort"]), base=st.sampled_from([None, "joint_position"]),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_round_trip_gives_bitwise_the_same_actions(tmp_path, family, width, depth, activation, base, seed):
    policy = fitted_policy(family, hidden=(2 * width,) * depth, activation=activation, action_base=base, seed=seed)
    loaded = load_checkpoint(save_checkpoint(policy, tmp_path / "checkpoint"))
    obs = demonstrations(33, seed)[0]
    assert torch.equal(loaded.select_action(obs), policy.select_action(obs))
    assert loaded.config == policy.config


def test_folder_holds_what_it_says_and_nothing_pickled(folder: Path):
    assert {path.name for path in folder.iterdir()} == {*FILES, "certificate.json", "README.md"}
    assert read_header(folder)["extra"] == {"note": 7}
    assert read_spec(folder) == SPEC
    card = (folder / "README.md").read_text()
    assert "`cube_position`" in card and "Lipschitz bound 5" in card
    signals = json.loads((folder / "signals.json").read_text())
    assert len(signals["normalization"]["observation_normalizer.std"]) == 17


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage"])
def test_damaged_file_is_named_in_one_line(folder: Path, name: str, damage: str):
    path, content = folder / name, (folder / name).read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "garbage": b"\x00\xff" * 40}[damage])
    with pytest.raises(FermoError) as caught:
        load_checkpoint(folder)
    assert str(path) in str(caught.value) and "copy the checkpoint again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_flipped_bit_in_the_weights_is_refused(folder: Path):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.raises(FermoError, match="hash mismatch"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "checkpoint format 99"),
        ({"family": "mlp_cb"}, "did you mean 'mlp_bc'"),
        ({"config": {"widht": 3}}, "sets widht"),
        ({"config": {"hidden": [64, 64]}}, "does not fit config.json"),
        ({"config": {"gamma": -1}}, "gamma must be positive"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder: Path, change: dict, message: str):
    header = json.loads((folder / "config.json").read_text())
    header["config"] |= change.pop("config", {})
    (folder / "config.json").write_text(json.dumps(header | change))
    with pytest.raises(FermoError, match=message) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_something_that_is_no_checkpoint_is_neither_read_nor_replaced(tmp_path: Path):
    with pytest.raises(FermoError, match="not a checkpoint folder"):
        load_checkpoint(tmp_path / "nowhere")
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter.txt").write_text("words")
    with pytest.raises(FermoError, match="not a checkpoint: choose another folder"):
        save_checkpoint(fitted_policy("mlp_bc"), precious)
    assert (precious / "chapter.txt").read_text() == "words"


def test_replacing_leaves_the_new_checkpoint_and_no_litter(folder: Path):
    policy = fitted_policy("mlp_bc")
    save_checkpoint(policy, folder)
    assert load_checkpoint(folder).family == "mlp_bc"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_failure_while_writing_leaves_the_old_checkpoint_and_no_litter(folder: Path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "model_card", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_checkpoint(fitted_policy("mlp_bc"), folder)
    assert load_checkpoint(folder).family == "lipschitz_bc"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_diverged_weights_are_not_saved(tmp_path: Path):
    policy = fitted_policy("mlp_bc")
    with torch.no_grad():
        policy.network[0].bias[0] = torch.nan
    with pytest.raises(FermoError, match=r"network\.0\.bias holds NaN"):
        save_checkpoint(policy, tmp_path / "checkpoint")
    assert not list(tmp_path.iterdir())
