"""The checker stands alone, reads what fermo writes, and refuses whatever was changed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from fermo.cli import main
from fermo.errors import FermoError
from fermo.policies.certificates import check_certificate
from fermo.policies.certificates.certificate import verify_certificate
from fermo.policies.certificates.check_certificate import read_safetensors
from fermo.policies.checkpoint import save_checkpoint
from tests.policies.plants import fitted_policy

SETTINGS = {
    "elementwise": ("mlp_bc", {"activation": "tanh", "action_base": "joint_position"}),
    "groupsort": ("mlp_bc", {"activation": "groupsort"}),
}


@pytest.fixture(scope="module", params=SETTINGS)
def pristine(request: pytest.FixtureRequest, tmp_path_factory) -> Path:
    family, settings = SETTINGS[request.param]
    policy = fitted_policy(family, hidden=(24, 24), **settings)
    return save_checkpoint(policy, tmp_path_factory.mktemp(request.param) / "checkpoint")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "checkpoint")


@pytest.fixture(scope="module")
def numpy_alone(tmp_path_factory) -> Path:
    """A folder of packages that holds NumPy and nothing else."""
    folder, installed = tmp_path_factory.mktemp("site"), Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        if (installed / name).exists():
            (folder / name).symlink_to(installed / name)
    return folder


def run_alone(numpy_alone: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The one file, copied elsewhere, where neither fermo nor torch nor safetensors can be imported."""
    script = shutil.copy(check_certificate.__file__, numpy_alone.parent / "copied.py")
    code = f"""
import importlib.util, runpy, sys
sys.path.append({str(numpy_alone)!r})
assert not any(importlib.util.find_spec(name) for name in ("fermo", "torch", "safetensors", "scipy"))
sys.argv = ["copied.py", {str(folder)!r}]
runpy.run_path({str(script)!r}, run_name="__main__")
"""
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)


def test_the_checker_runs_where_fermo_is_not_installed(folder: Path, numpy_alone: Path):
    done = run_alone(numpy_alone, folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "holds: the bounds follow from its weights" in done.stdout and "(rad)/(m)" in done.stdout
    edit(lambda data: data.update(lipschitz=data["lipschitz"] * 0.99))(folder)
    done = run_alone(numpy_alone, folder)
    assert done.returncode == 2 and done.stdout == ""
    assert "states a 'lipschitz' that its weights do not have" in done.stderr and done.stderr.count("\n") == 1


def test_the_checker_reads_tensors_as_safetensors_does(folder: Path):
    ours, theirs = read_safetensors(folder / "model.safetensors"), load_file(folder / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor)


def test_every_bound_is_proved_by_multipliers_that_the_file_holds(folder: Path):
    certificate = verify_certificate(folder)
    for statement in (certificate, *certificate["sensitivity"]):
        assert statement["method"] == "LipSDP-neuron" and all(layer for layer in statement["multipliers"])
    assert certificate["steepest_slope_found"] <= certificate["lipschitz"]


def edit(change: Callable[[dict[str, Any]], Any], name: str = "certificate") -> Callable[[Path], None]:
    """Rewrites one of a checkpoint's JSON files."""

    def tamper(folder: Path) -> None:
        path = folder / f"{name}.json"
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return tamper


def scaled(*keys: str | int, by: float) -> Callable[[Path], None]:
    """Multiplies the number at that place of the certificate."""

    def change(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] *= by

    return edit(change)


def flip_a_bit(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def of_another_policy(folder: Path) -> None:
    other = save_checkpoint(fitted_policy("mlp_bc", hidden=(24, 24), activation="tanh", seed=3), folder / "other")
    shutil.copy(other / "certificate.json", folder / "certificate.json")


TAMPERED = {
    "a lower bound": scaled("lipschitz", by=0.99),
    "a higher bound": scaled("lipschitz", by=1.01),
    "a lower gain": scaled("sensitivity", 0, "gain", by=0.5),
    "one multiplier": scaled("multipliers", 0, 3, by=1.5),
    "a multiplier of the wrong sign": scaled("multipliers", 1, 2, by=-1.0),
    "a row's multiplier": scaled("sensitivity", 2, "multipliers", 0, 1, by=0.3),
    "the slope found": scaled("steepest_slope_found", by=0.9),
    "the pair found": scaled("steepest_pair", 0, 4, by=1.1),
    "the normaliser": scaled("observation_std", 3, by=2.0),
    "the action scale": scaled("action_std", 1, by=2.0),
    "the inflation": scaled("inflation", by=0.1),
    "the unit": edit(lambda data: data["sensitivity"][0].update(unit="(rad)/(deg)")),
    "the norm": edit(lambda data: data.update(norm="linf to l2")),
    "the conditions": edit(lambda data: data["conditions"].pop()),
    "a missing layer": edit(lambda data: data["multipliers"].pop()),
    "a missing row": edit(lambda data: data["sensitivity"].pop()),
    "a missing field": edit(lambda data: data.pop("multipliers")),
    "no multipliers": edit(lambda data: data.update(multipliers=None)),
    "the product's name": edit(lambda data: data.update(multipliers=None, method="product of spectral norms")),
    "text for a number": edit(lambda data: data.update(lipschitz="5")),
    "not a number": edit(lambda data: data.update(lipschitz=float("nan"))),
    "gamma": edit(lambda data: data.update(gamma_requested=3.0, by_construction=True)),
    "another activation": edit(lambda data: data["config"].update(activation="swish"), "config"),
    "a plant of another size": edit(lambda data: data["plant"]["observations"].pop(), "signals"),
    "a bit of the weights": flip_a_bit,
    "another policy's certificate": of_another_policy,
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "no certificate": lambda folder: (folder / "certificate.json").unlink(),
    "a list for a certificate": lambda folder: (folder / "certificate.json").write_text("[]"),
    "half a certificate": lambda folder: (folder / "certificate.json").write_text('{"claim": '),
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=list(TAMPERED))
def test_whatever_is_changed_is_refused_in_one_line(folder: Path, tamper: Callable[[Path], None]):
    verify_certificate(folder)
    tamper(folder)
    with pytest.raises(FermoError) as caught:
        verify_certificate(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_forgotten_normaliser_or_action_base_in_the_prover_is_caught_by_the_checker(tmp_path, monkeypatch):
    from fermo.policies.certificates import certificate

    normalized = check_certificate.FeedforwardMap.normalized
    bugs = {
        "the base": lambda self: (normalized(self)[0], 0 * normalized(self)[1]),
        "a transposed factor": lambda self: ([normalized(self)[0][0], normalized(self)[0][1].T, normalized(self)[0][2]],
                                             normalized(self)[1]),
        "the normaliser": lambda self: self.rescaled(np.ones(6), 1 / self.observation_std),
    }  # fmt: skip
    for name, bug in bugs.items():
        policy = fitted_policy("mlp_bc", hidden=(12, 12), activation="relu", action_base="joint_position")
        with monkeypatch.context() as patch:
            planted = type("Planted", (check_certificate.FeedforwardMap,), {"normalized": bug})
            patch.setattr("fermo.policies.behavior_cloning.FeedforwardMap", planted)
            patch.setattr("fermo.policies.behavior_cloning.ROUNDING", 1e9)  # the search must not be what catches it
            folder = save_checkpoint(policy, tmp_path / name)
        with pytest.raises(FermoError, match=r"lipschitz|multipliers|steepest_pair"):
            certificate.verify_certificate(folder)


def test_certify_prints_bounds_and_what_sensor_errors_do(folder: Path, capsys: pytest.CaptureFixture[str]):
    main(["certify", str(folder), "--sensor-error", "joint_position=0.01", "cube_position=0.002"])
    text = capsys.readouterr().out
    assert "Lipschitz bound" in text and "joint_target is off by at most" in text and "rad in l2" in text
    assert "holds" in text


@pytest.mark.parametrize(("arguments", "says"), [
    (["--sensor-error", "cube_positon=0.01"], "did you mean 'cube_position'"),
    (["--sensor-error", "cube_position"], "takes SIGNAL=VALUE"),
    (["--sensor-error", "cube_position=-1"], "must be positive and finite"),
])  # fmt: skip
def test_certify_tells_mistakes_in_one_line(folder, arguments, says, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["certify", str(folder), *arguments])
    told = capsys.readouterr().err
    assert end.value.code == 2 and says in told and told.count("\n") == 1


@pytest.mark.parametrize("bend", [{"squash": "tanh"}, {"observation_clip": 5.0}])
def test_a_policy_without_a_proof_says_why(tmp_path, bend, capsys: pytest.CaptureFixture[str]):
    policy = fitted_policy("actor_mlp", action_base="joint_position", **bend)
    folder = save_checkpoint(policy, tmp_path / "checkpoint")
    assert not (folder / "certificate.json").exists()
    assert "No certificate: its action base passes around the squash" in (folder / "README.md").read_text()
    with pytest.raises(SystemExit) as end:
        main(["certify", str(folder)])
    assert end.value.code == 2 and "has no certificate" in (told := capsys.readouterr().err)
    assert "its action base passes around" in told and told.count("\n") == 1
    shutil.copy(save_checkpoint(fitted_policy("mlp_bc"), tmp_path / "other") / "certificate.json", folder)
    with pytest.raises(FermoError, match="action base passes around"):
        verify_certificate(folder)
