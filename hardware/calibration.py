"""Calibration: how each servo's encoder is mounted, found once by a scripted procedure, kept as one JSON file."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fermo.errors import FermoError
from fermo.hardware.sts3215 import COUNTS_PER_TURN, RADIANS_PER_COUNT


@dataclass(frozen=True, kw_only=True)
class JointCalibration:
    """One joint: ``angle = sign * (counts - zero) * 2 pi / 4096``.

    Attributes:
        name: Joint name.
        zero: Encoder counts at angle zero.
        sign: +1 when counts and angle grow together, else -1.
        low: Smallest counts the joint may reach.
        high: Largest counts the joint may reach.
    """

    name: str
    zero: int
    sign: int
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.sign not in (-1, 1):
            raise ValueError(f"joint {self.name!r}: sign must be 1 or -1, got {self.sign}")
        if not 0 <= self.low < self.high < COUNTS_PER_TURN:
            raise ValueError(f"joint {self.name!r}: range {self.low}..{self.high} is not in 0..{COUNTS_PER_TURN - 1}")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """All joints of one arm, in the order of their servo ids.

    Attributes:
        name: Which arm this is.
        joints: One entry a servo.
    """

    name: str
    joints: tuple[JointCalibration, ...]

    @property
    def hash(self) -> str:
        """Fingerprint of the numbers, kept in the file and in logs."""
        numbers = [(joint.name, joint.zero, joint.sign, joint.low, joint.high) for joint in self.joints]
        return hashlib.sha256(json.dumps(numbers).encode()).hexdigest()[:16]

    def to_radians(self, counts: np.ndarray) -> np.ndarray:
        """Angles [rad] of encoder counts, shape ``(joints,)``."""
        return self._signs * (counts - self._zeros) * RADIANS_PER_COUNT

    def to_velocity(self, counts_per_second: np.ndarray) -> np.ndarray:
        """Joint speeds [rad/s] of encoder speeds, shape ``(joints,)``."""
        return self._signs * counts_per_second * RADIANS_PER_COUNT

    def to_counts(self, angles: np.ndarray) -> np.ndarray:
        """Encoder counts of angles [rad], rounded and kept inside each joint's range, shape ``(joints,)`` int64."""
        counts = self._zeros + self._signs * angles / RADIANS_PER_COUNT
        low, high = np.array([(joint.low, joint.high) for joint in self.joints]).T
        return np.clip(np.rint(counts), low, high).astype(np.int64)

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper joint angles [rad] the ranges allow, each ``(joints,)``."""
        ends = np.array([(joint.low, joint.high) for joint in self.joints]).T
        angles = np.stack([self.to_radians(end) for end in ends])
        return angles.min(0), angles.max(0)

    @cached_property
    def _zeros(self) -> np.ndarray:
        return np.array([joint.zero for joint in self.joints])

    @cached_property
    def _signs(self) -> np.ndarray:
        return np.array([joint.sign for joint in self.joints])

    def to_json(self) -> dict[str, Any]:
        """What the file holds."""
        return {"name": self.name, "hash": self.hash, "joints": [asdict(joint) for joint in self.joints]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibration:
        """The inverse of `to_json`. Raises `FermoError` when the numbers are not those that were hashed."""
        try:
            calibration = cls(name=data["name"], joints=tuple(JointCalibration(**joint) for joint in data["joints"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FermoError(f"not a calibration ({error}); run `fermo calibrate so101` again") from error
        if data.get("hash") != calibration.hash:
            raise FermoError(
                f"calibration {calibration.name!r} was edited (its hash is {data.get('hash')}, its numbers give "
                f"{calibration.hash}); run `fermo calibrate so101` again"
            )
        return calibration


def calibration_path(name: str) -> Path:
    """Where arm `name` keeps its calibration: under ``$FERMO_CONFIG``, else ``~/.config/fermo``."""
    root = Path(os.environ["FERMO_CONFIG"]) if "FERMO_CONFIG" in os.environ else Path.home() / ".config" / "fermo"
    return root / "calibration" / f"{name}.json"


def save_calibration(calibration: Calibration) -> Path:
    """Write the file whole or not at all; returns its path."""
    path = calibration_path(calibration.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
        json.dump(calibration.to_json(), file, indent=2)
    Path(file.name).rename(path)
    return path


def load_calibration(name: str) -> Calibration:
    """The calibration of arm `name`. Raises `FermoError` naming the command that makes one."""
    path, again = calibration_path(name), f"fermo calibrate so101 --port PORT --name {name}"
    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob("*.json")) if path.parent.is_dir() else []
        raise FermoError(
            f"arm {name!r} is not calibrated (no {path}; calibrated: {', '.join(known) or 'none'}); run `{again}`"
        )
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise FermoError(f"{path} is not JSON ({error}); run `{again}`") from error
    return Calibration.from_json(data)


def calibrate(
    name: str,
    joints: Sequence[str],
    signs: Sequence[int],
    read_counts: Callable[[], np.ndarray],
    at_zero: Callable[[], None],
    moving: Callable[[], bool],
) -> Calibration:
    """Find zeros and ranges while someone moves the limp arm; torque must be off.

    Args:
        name: Name of the arm.
        joints: Joint names in servo order.
        signs: Which way each encoder counts; a property of the assembly, not of the single arm.
        read_counts: Reads the encoders, shape ``(len(joints),)``.
        at_zero: Returns once the arm is held in its zero pose.
        moving: Called before each sample of the range; False ends the procedure.

    Raises:
        FermoError: A joint was moved through less than an eighth of a turn, or across the encoder's seam.
    """
    at_zero()
    zeros = np.median([read_counts() for _ in range(5)], axis=0).astype(int)
    low = high = zeros
    previous = zeros
    while moving():
        counts = read_counts().astype(int)
        if np.abs(counts - previous).max() > COUNTS_PER_TURN // 2:
            joint = joints[int(np.abs(counts - previous).argmax())]
            raise FermoError(f"joint {joint!r} crossed the encoder's seam; mount its horn with zero near 2048 counts")
        low, high, previous = np.minimum(low, counts), np.maximum(high, counts), counts
    narrow = [joint for joint, span in zip(joints, high - low, strict=True) if span < COUNTS_PER_TURN // 8]
    if narrow:
        raise FermoError(f"move every joint to both ends of its range; these hardly moved: {', '.join(narrow)}")
    return Calibration(
        name=name,
        joints=tuple(
            JointCalibration(name=joint, zero=int(zero), sign=sign, low=int(a), high=int(b))
            for joint, zero, sign, a, b in zip(joints, zeros, signs, low, high, strict=True)
        ),
    )
