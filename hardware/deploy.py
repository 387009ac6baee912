"""Run a checkpoint on an arm, or on its twin, where a supervisor places the cube and knows whether it was lifted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fermo.assets.scenes.so101 import HOME_QPOS, JOINT_NAMES, TOOL_SITE, so101_scene
from fermo.controllers.arm_filter import ArmFilter
from fermo.controllers.arm_filter_config import ArmFilterConfig
from fermo.controllers.kinematics import SerialChain
from fermo.errors import FermoError
from fermo.hardware.action_source import ActionSource, action_source
from fermo.hardware.chunk_report import ChunkReport
from fermo.hardware.chunked import acting
from fermo.hardware.chunking import Chunking
from fermo.hardware.clock import Clock, WallClock
from fermo.hardware.filtered_robot import FilteredRobot, FilterReport
from fermo.hardware.loop import LoopReport, Tick, check_plant, run_policy
from fermo.hardware.registry import make_robot
from fermo.hardware.robot import Robot, RobotError
from fermo.hardware.servo_loop import ServoedRobot
from fermo.hardware.servo_process import ServoProcess
from fermo.hardware.twins.supervisor import Supervisor, Twin, spawn_twin
from fermo.policies.base import Policy
from fermo.policies.certificates.certificate import verify_certificate
from fermo.policies.certificates.check_certificate import read_map
from fermo.policies.certificates.deviation import deviations
from fermo.policies.checkpoint import load_checkpoint

LIFT_HEIGHT = 0.05
"""How much higher than its start the cube must end for a success [m]."""

EPISODE_S = 6.0
"""Length of an episode [s]."""

VIDEO_RATE = 15.0
"""Of the poses logged for video [Hz]."""

_REACH = (0.14, 0.26)  # of the cube from the base axis [m]
_AZIMUTH = math.radians(40.0)
_START_SPREAD = 0.05  # of the arm's starting pose [rad]


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One try.

    Attributes:
        cube: Where the cube was put, ``(x, y, yaw)``; None when nobody placed it.
        rise: How much higher it ended [m]; None when nobody measured it.
        success: Whether that is more than `LIFT_HEIGHT`; None when nobody measured it.
        fault: Why the robot stopped early, empty otherwise.
    """

    cube: tuple[float, float, float] | None = None
    rise: float | None = None
    success: bool | None = None
    fault: str = ""


@dataclass(kw_only=True)
class DeployReport:
    """What came of it.

    Attributes:
        episodes: One entry a try.
        loop: Timing of all tries together.
        differences: How the twin departs from the training simulator; empty on an arm.
        lockstep: Whether time was simulated; the loop's times are then simulated too.
        qpos: Poses of the first recorded episodes for video, each ``(T, nq)``.
        video_rate: Of those poses [Hz].
        chunks: What became of the policy's chunks; None where it was asked for every action.
        safety: What the safety filter did; None where there was none.
    """

    loop: LoopReport
    episodes: list[Episode] = field(default_factory=list)
    differences: tuple[str, ...] = ()
    lockstep: bool = False
    qpos: list[np.ndarray] = field(default_factory=list)
    video_rate: float = VIDEO_RATE
    chunks: ChunkReport | None = None
    safety: FilterReport | None = None

    @property
    def successes(self) -> int:
        """Tries that lifted the cube."""
        return sum(bool(episode.success) for episode in self.episodes)

    def to_json(self) -> dict[str, Any]:
        """Everything but the poses."""
        return {
            "episodes": [vars(episode) for episode in self.episodes],
            "successes": self.successes,
            "loop": self.loop.to_json(),
            "differences": list(self.differences),
            "lockstep": self.lockstep,
            "chunks": self.chunks.summary() if self.chunks else None,
            "safety": self.safety.to_json() if self.safety else None,
        }


def start_pose(seed: int, episode: int) -> tuple[tuple[float, float, float], np.ndarray]:
    """Where cube ``(x, y, yaw)`` and arm ``(6,)`` start: the task's distribution, drawn by (seed, episode)."""
    random = np.random.default_rng((seed, episode))
    reach = math.sqrt(random.uniform(_REACH[0] ** 2, _REACH[1] ** 2))  # uniform over the area
    azimuth, yaw = random.uniform(-_AZIMUTH, _AZIMUTH), random.uniform(0.0, 2 * math.pi)
    arm = np.array(HOME_QPOS) + _START_SPREAD * random.standard_normal(6)
    return (reach * math.cos(azimuth), reach * math.sin(azimuth), yaw), arm


def run_episodes(
    policy: Policy | ActionSource,
    robot: Robot,
    clock: Clock,
    *,
    episodes: int,
    seconds: float = EPISODE_S,
    seed: int = 0,
    supervisor: Supervisor | None = None,
    video: int = 0,
    on_tick: Callable[[Tick], None] | None = None,
    on_episode: Callable[[Episode], None] | None = None,
    dry_run: bool = False,
) -> DeployReport:
    """Try `episodes` times on a connected robot; a fault ends the try, and the series, and is reported.

    Args:
        policy: What decides.
        robot: Connected.
        clock: Its clock.
        episodes: How many tries.
        seconds: Length of each [s].
        seed: Of the starting poses, where a supervisor sets them.
        supervisor: Of a twin; places things before each try and scores it after.
        video: Of how many tries to log poses.
        on_tick: Passed to the loop.
        on_episode: Called after every try.
        dry_run: Torque stays off.
    """
    source = action_source(policy)
    report = DeployReport(loop=LoopReport(rate_hz=source.spec.rate_hz), chunks=source.report)
    for index in range(episodes):
        cube, start_height = None, 0.0
        if supervisor:
            cube, arm = start_pose(seed, index)
            start_height = supervisor.reset(cube=cube, arm=arm)["cube_position"][2]
            supervisor.record(VIDEO_RATE if index < video else 0.0)
        fault = ""
        try:
            run_policy(
                robot, source, clock=clock, duration_s=seconds, on_tick=on_tick, dry_run=dry_run, report=report.loop
            )
        except RobotError as error:
            fault = str(error)
        rise = supervisor.truth()["cube_position"][2] - start_height if supervisor else None
        if supervisor and index < video:
            report.qpos.append(supervisor.recorded()[1])
        episode = Episode(cube=cube, rise=rise, success=None if rise is None else rise > LIFT_HEIGHT, fault=fault)
        report.episodes.append(episode)
        if on_episode:
            on_episode(episode)
        if fault:
            break
    return report


@contextmanager
def connect_twin(twin: Twin, *, leave: str = "hold") -> Iterator[tuple[Robot, Clock]]:
    """A connected robot on `twin` and its clock: the servo loop in this process in lockstep, else in its own."""
    config: dict[str, Any] = {
        "port": twin.port,
        "tracker": ("127.0.0.1", twin.tracker_port),
        "calibration": twin.calibration,
        "leave": leave,
    }
    if twin.lockstep:
        clock = twin.clock()
        config["reply_timeout"] = 0.5  # of wall time, which says nothing here
        robot = ServoedRobot(make_robot("so101", clock=clock, **config), clock)
        with robot:
            yield robot, robot
    else:
        with ServoProcess("so101", **config) as robot:
            yield robot, WallClock()


def filtered_so101(robot: Robot, safety: ArmFilterConfig, certified: Path | None = None) -> FilteredRobot:
    """An SO-101 behind a safety filter for its joints and its tool.

    Args:
        robot: The arm, or its twin.
        safety: Half-spaces, gamma, errors.
        certified: Folder of the checkpoint that decides; its certificate, verified, says how far the errors of the
            joint angles move an action.
    """
    (command,) = robot.spec.commands
    chain = SerialChain.from_model(so101_scene(with_cube=False).compile(), TOOL_SITE)
    arm_filter = ArmFilter(
        safety, chain, names=JOINT_NAMES, low=command.low, high=command.high, rate_hz=robot.spec.rate_hz
    )
    return FilteredRobot(robot, arm_filter, action_error=_action_error(certified, safety.error) if certified else None)


def _action_error(folder: Path, error: float) -> float | None:
    """How far errors of the joint angles move a checkpoint's action (l2) [rad]; None where it has no certificate."""
    if not (folder / "certificate.json").is_file():
        return None
    lipschitz = verify_certificate(folder)["lipschitz"]
    if error == 0.0:
        return 0.0
    (goals,) = deviations(read_map(folder), {"joint_position": error}, lipschitz)
    return goals.bound


def deploy_on_twin(
    policy: Policy | str | Path,
    *,
    episodes: int = 10,
    lockstep: bool = False,
    seed: int = 0,
    seconds: float = EPISODE_S,
    video: int = 0,
    safety: ArmFilterConfig | None = None,
    chunking: Chunking | None = None,
    inference_delay: float = 0.0,
    compiled: bool = False,
    on_episode: Callable[[Episode], None] | None = None,
) -> DeployReport:
    """Start an SO-101 twin, run `episodes` tries of a policy or checkpoint folder on it, score them.

    With `safety`, every command passes a safety filter first. With `chunking`, the policy's chunks are computed while
    the loop goes on, each `inference_delay` seconds longer than it takes. With `compiled`, the policy's sampler is
    compiled before the twin starts.
    """
    certified = None if isinstance(policy, Policy) else Path(policy)
    if not isinstance(policy, Policy):
        policy = load_checkpoint(policy)
    if compiled:
        policy.compile_sampler(1)
    with spawn_twin("so101", lockstep=lockstep, seed=seed) as twin, connect_twin(twin) as (robot, clock):
        filtered = filtered_so101(robot, safety, certified) if safety else None
        robot = filtered or robot
        with acting(policy, clock, chunking, delay_s=inference_delay) as source:
            report = run_episodes(
                source, robot, clock, episodes=episodes, seconds=seconds, seed=seed, supervisor=twin.supervisor,
                video=video, on_episode=on_episode,
            )  # fmt: skip
        report.differences, report.lockstep = twin.differences, lockstep
        report.safety = filtered.report if filtered else None
    return report


def deploy(
    checkpoint: str | Path,
    robot: str = "so101",
    *,
    port: str,
    tracker: tuple[str, int] | None = None,
    name: str = "so101",
    episodes: int = 1,
    seconds: float = EPISODE_S,
    dry_run: bool = False,
    safety: ArmFilterConfig | None = None,
    chunking: Chunking | None = None,
    inference_delay: float = 0.0,
    compiled: bool = False,
    on_tick: Callable[[Tick], None] | None = None,
) -> DeployReport:
    """Run a checkpoint on an arm, or on a twin that is already running: the driver cannot tell them apart.

    Args:
        checkpoint: Folder written by training.
        robot: Name in the registry.
        port: Serial device of the servo bus.
        tracker: ``(host, port)`` of the object tracker.
        name: Which arm: names its calibration file.
        episodes: How many tries.
        seconds: Length of each [s].
        dry_run: Compute commands, pass them to `on_tick`, leave torque off.
        safety: Of a safety filter that every command passes first; None does without.
        chunking: How one of the policy's chunks gives way to the next; None asks for every action and waits for it.
        inference_delay: Added to every inference of a chunk [s].
        compiled: Compile the policy's sampler before the robot is connected.
        on_tick: Called every policy period.

    Raises:
        FermoError: The checkpoint, the calibration or the signals do not fit; nothing has moved then.
    """
    policy = load_checkpoint(checkpoint)
    tracked = [signal.name for signal in policy.spec.observations if signal.device == "object_tracker"]
    if tracked and tracker is None:
        raise FermoError(
            f"this policy reads {', '.join(tracked)} from an object tracker: say where it is with --tracker HOST:PORT "
            f"(fermo twin prints its own)"
        )
    driven = ServoProcess(robot, port=port, tracker=tracker, name=name)
    check_plant(policy.spec, driven.spec)
    if compiled:
        policy.compile_sampler(1)
    filtered = filtered_so101(driven, safety, Path(checkpoint)) if safety else None
    clock = WallClock()
    with acting(policy, clock, chunking, delay_s=inference_delay) as source, filtered or driven as connected:
        report = run_episodes(
            source, connected, clock, episodes=episodes, seconds=seconds, dry_run=dry_run, on_tick=on_tick
        )
    report.safety = filtered.report if filtered else None
    return report
