"""The catalogue with wheels made here, through the real pip and without a network."""

import hashlib
import socket
import subprocess
import zipfile
from pathlib import Path

import pytest

from fermo.assets import catalogue
from fermo.assets.catalogue import CATALOGUE, AssetPackage, add_from_file, find_package, is_cached, resolve
from fermo.errors import FermoError

FILES = {
    "gripper_models/assets/gripper.xml": "<mujoco/>",
    "gripper_models/assets/meshes/finger.stl": "solid finger",
    "gripper_models/code.py": "raise RuntimeError('never imported')",
    "gripper_models-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: gripper-models\nVersion: 1.0\n",
    "gripper_models-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "gripper_models-1.0.dist-info/licenses/LICENSE": "Do as you like.",
    "gripper_models-1.0.dist-info/RECORD": "",
}


def write_wheel(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "gripper_models-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return write_wheel(tmp_path / "index", FILES)


@pytest.fixture
def gripper(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AssetPackage:
    """A catalogue entry for the wheel, an empty cache, and pip looking at the wheel's folder only."""
    package = AssetPackage(
        name="gripper",
        distribution="gripper-models",
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        members="gripper_models/assets/",
        entry="gripper.xml",
        licence="0BSD",
        licence_member="gripper_models-1.0.dist-info/licenses/LICENSE",
        megabytes=0.001,
        note="made up",
    )
    monkeypatch.setitem(CATALOGUE, "gripper", package)
    monkeypatch.setenv("FERMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return package


def cached_files(tmp_path: Path) -> dict[str, str]:
    root = tmp_path / "cache"
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


UNPACKED = {
    "assets/gripper-1.0/gripper.xml": "<mujoco/>",
    "assets/gripper-1.0/meshes/finger.stl": "solid finger",
    "assets/gripper-1.0/LICENSE": "Do as you like.",
}


def test_an_asset_is_fetched_once_with_its_licence_and_nothing_else(gripper, tmp_path, capsys, monkeypatch) -> None:
    assert not is_cached("gripper")
    path = resolve("gripper")
    assert path.read_text() == "<mujoco/>"
    assert cached_files(tmp_path) == UNPACKED
    said = capsys.readouterr().err
    assert all(word in said for word in ("gripper-models 1.0", "0BSD", "made up"))
    cut_off(monkeypatch)
    assert resolve("gripper") == path
    assert capsys.readouterr().err == ""


def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network or another program was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)


def test_the_arm_needs_no_network_once_it_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve("so101")
    cut_off(monkeypatch)
    path = resolve("so101")
    assert path.name == "so101_new_calib.xml"
    assert "Apache License" in (path.parent / "LICENSE").read_text()


def test_a_wheel_from_elsewhere_fills_the_cache(gripper, wheel: Path, tmp_path: Path, monkeypatch) -> None:
    cut_off(monkeypatch)
    assert add_from_file("gripper", wheel) == resolve("gripper")
    assert cached_files(tmp_path) == UNPACKED


def test_a_wheel_with_another_hash_is_refused_and_leaves_nothing(gripper, tmp_path: Path, monkeypatch) -> None:
    forged = write_wheel(tmp_path / "forged", {**FILES, "gripper_models/assets/gripper.xml": "<worm/>"})
    with pytest.raises(FermoError, match=r"has sha256 \w{16}\.\.\., the catalogue expects .* delete it and fetch"):
        add_from_file("gripper", forged)
    assert not is_cached("gripper")
    monkeypatch.setenv("PIP_FIND_LINKS", str(forged.parent))
    with pytest.raises(FermoError, match="the catalogue expects"):
        resolve("gripper")
    assert not is_cached("gripper")
    assert list((tmp_path / "cache" / "assets").iterdir()) == []


def test_a_refused_wheel_does_not_harm_what_is_cached(gripper, wheel: Path, tmp_path: Path) -> None:
    add_from_file("gripper", wheel)
    with pytest.raises(FermoError):
        add_from_file("gripper", write_wheel(tmp_path / "forged", FILES | {"more": "x"}))
    assert cached_files(tmp_path) == UNPACKED


def test_a_broken_unpacking_is_not_taken_for_an_asset(gripper, wheel: Path, tmp_path: Path) -> None:
    path = add_from_file("gripper", wheel)
    (path.parent / "LICENSE").unlink()  # written last
    path.write_text("half")
    assert not is_cached("gripper")
    assert resolve("gripper").read_text() == "<mujoco/>"


def test_a_failed_download_says_how_to_go_on(gripper, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(FermoError, match=r"could not download gripper-models==1\.0 .*assets add gripper FILE") as e:
        resolve("gripper")
    assert "\n" not in str(e.value)
    assert cached_files(tmp_path) == {}


def test_unknown_names_and_missing_files(gripper, tmp_path: Path) -> None:
    with pytest.raises(FermoError, match=r"unknown asset 'so100': did you mean 'so101'\?"):
        find_package("so100")
    with pytest.raises(FermoError, match=r"no file .*gone\.whl; give the wheel of gripper-models 1\.0"):
        add_from_file("gripper", tmp_path / "gone.whl")


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FERMO_CACHE", raising=False)
    assert catalogue.cache_folder() == tmp_path / "fermo"
    monkeypatch.setenv("FERMO_CACHE", str(tmp_path / "mine"))
    assert catalogue.cache_folder() == tmp_path / "mine"
