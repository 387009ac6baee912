"""``fermo deploy``: a checkpoint on a robot; the same command for an arm and for a twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fermo.cli.parsing import existing_checkpoint, parse
from fermo.controllers.arm_filter_config import ArmFilterConfig
from fermo.errors import FermoError, unknown_name
from fermo.hardware.chunking import Chunking, make_chunking

if TYPE_CHECKING:
    from fermo.hardware.chunk_report import ChunkReport
    from fermo.hardware.deploy import DeployReport, Episode
    from fermo.hardware.filtered_robot import FilterReport
    from fermo.hardware.loop import Tick


@dataclass(frozen=True, kw_only=True)
class DeployOptions:
    """Run a checkpoint on a robot at PORT, or on a twin that is started for it.

    Attributes:
        checkpoint: Folder written by training.
        robot: Name of the driver.
        port: Serial device of the servo bus: an arm's, or that of a twin that is already running.
        tracker: HOST:PORT of the object tracker.
        name: Which arm: names its calibration file.
        twin: Start a twin and run there; it also places the cube and scores the episodes.
        lockstep: With a twin, let simulated time wait for the policy.
        episodes: How many tries.
        seconds: Length of each [s].
        seed: Of the starting poses, on a twin.
        dry_run: Print commands, leave torque off.
        filter: Pass every command through a safety filter: joint limits, and half-spaces that the tool stays in.
        safety: Of that filter.
        chunking: Compute the next chunk of actions while the present one is carried out: ``real-time`` goes on from
            what is carried out meanwhile, ``naive`` knows nothing of it, ``synchronous`` holds still until it is there.
        execute: Actions of a chunk that are carried out before the next is asked for; half of them when omitted.
        inference_delay: Make every inference of a chunk this much slower [s].
        compile: Compile the policy's sampler before anything moves, which takes a minute or so.
        report: Write episodes and loop timing to this JSON file.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    robot: str = "so101"
    port: str | None = None
    tracker: str | None = None
    name: str = "so101"
    twin: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    lockstep: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    episodes: int = 1
    seconds: float = 6.0
    seed: int = 0
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    filter: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    safety: ArmFilterConfig = field(default_factory=ArmFilterConfig)
    chunking: Literal["real-time", "naive", "synchronous"] | None = None
    execute: int | None = None
    inference_delay: float = 0.0
    compile: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    report: Path | None = None

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.seconds <= 0:
            raise FermoError(f"episodes and seconds must be positive, got {self.episodes} and {self.seconds}")
        if self.safety != ArmFilterConfig() and not self.filter:
            raise FermoError("--safety says how to filter: add --filter")
        if self.chunking is None and (self.execute is not None or self.inference_delay):
            raise FermoError("--execute and --inference-delay are about chunks: add --chunking real-time")
        if self.inference_delay < 0:
            raise FermoError(f"inference-delay cannot be negative, got {self.inference_delay:g} s")
        self.mode()

    def mode(self) -> Chunking | None:
        """How one chunk gives way to the next; None where the policy is asked for every action."""
        return make_chunking(self.chunking, execute=self.execute) if self.chunking else None


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(DeployOptions, "deploy", arguments)
    from fermo.hardware.registry import ROBOTS

    if options.robot not in ROBOTS:
        raise unknown_name("robot", options.robot, ROBOTS)
    folder = existing_checkpoint(options.checkpoint)
    if options.twin == (options.port is not None):
        raise FermoError("give either --twin or --port PORT (fermo find-port finds an arm, fermo twin serves a twin)")
    if options.port and not Path(options.port).exists():
        raise FermoError(f"there is no serial device {options.port}; `fermo find-port` lists those that there are")
    report = _on_twin(options, folder) if options.twin else _on_port(options, folder)
    _print_report(report)
    if options.report:
        from fermo.training.files import write_json

        options.report.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.report, report.to_json())
    faults = [episode.fault for episode in report.episodes if episode.fault]
    if faults:
        raise FermoError(f"the robot stopped: {faults[0]}")


def _on_twin(options: DeployOptions, folder: Path) -> DeployReport:
    from fermo.hardware.deploy import deploy_on_twin

    return deploy_on_twin(
        folder, episodes=options.episodes, lockstep=options.lockstep, seed=options.seed, seconds=options.seconds,
        on_episode=_print_episode, **_between(options),
    )  # fmt: skip


def _on_port(options: DeployOptions, folder: Path) -> DeployReport:
    from fermo.hardware.calibration import load_calibration

    load_calibration(options.name)  # an arm that is not ready is refused before torch takes its seconds to load
    from fermo.hardware.deploy import deploy

    return deploy(
        folder, options.robot, port=str(options.port), tracker=_endpoint(options.tracker), name=options.name,
        episodes=options.episodes, seconds=options.seconds, dry_run=options.dry_run,
        on_tick=_print_tick if options.dry_run else None, **_between(options),
    )  # fmt: skip


def _between(options: DeployOptions) -> dict[str, Any]:
    """What stands between policy and robot, wherever that is."""
    return {"safety": options.safety if options.filter else None, "chunking": options.mode(),
            "inference_delay": options.inference_delay, "compiled": options.compile}  # fmt: skip


def _endpoint(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise FermoError(f"--tracker is HOST:PORT, for example 127.0.0.1:5005, got {text!r}")
    return host, int(port)


def _print_tick(tick: Tick) -> None:
    print(f"{tick.index:5d}  command {'  '.join(f'{value:+.3f}' for value in tick.action)}")


def _print_episode(episode: Episode) -> None:
    rise = "" if episode.rise is None else f", cube rose {100 * episode.rise:.1f} cm"
    outcome = {True: "success", False: "failure", None: "done"}[episode.success]
    print(f"{outcome}{rise}{f', {episode.fault}' if episode.fault else ''}", flush=True)


def _print_report(report: DeployReport) -> None:
    if any(episode.success is not None for episode in report.episodes):
        print(f"{report.successes} of {len(report.episodes)} episodes succeeded")
    summary = report.loop.summary()
    print(f"loop: {summary['ticks']} ticks at {summary['rate_hz']:g} Hz")
    for name, times in ((name, value) for name, value in summary.items() if name.endswith("_ms")):
        print(f"  {name.removesuffix('_ms'):<9} [ms] {_spread(times, '.2f')}")
    counts = {name: summary[name] for name in ("misses", "stale_reads", "clipped", "rejected")}
    print(f"  counts    {', '.join(f'{name} {count}' for name, count in counts.items())}")
    if report.chunks:
        _print_chunks(report.chunks)
    if report.safety:
        _print_safety(report.safety)
    for difference in report.differences:
        print(f"twin differs: {difference}")


def _print_chunks(report: ChunkReport) -> None:
    told = report.summary()
    print(f"chunks: {told['chunks']} of {told['horizon']} actions, {told['mode']}, the next one asked for after "
          f"{told['execute']}")  # fmt: skip
    print(f"  carried out during an inference [actions] {_spread(told['delay_actions'], 'g')}")
    print(f"  counts    {', '.join(f'{name} {told[name]}' for name in ('holds', 'late', 'dropped'))}")
    print(f"  jerk at seams       [rad/s^3] {_spread(told['seam_jerk'], '.0f')}")
    print(f"  jerk inside chunks  [rad/s^3] {_spread(told['inner_jerk'], '.0f')}")
    print(f"  largest step [rad] at seams {told['largest_seam_step']:.4f}, inside chunks "
          f"{told['largest_inner_step']:.4f}")  # fmt: skip


def _spread(values: dict[str, float], form: str) -> str:
    return ", ".join(f"{kind} {value:{form}}" for kind, value in values.items())


def _print_safety(report: FilterReport) -> None:
    summary = report.summary()
    print(f"safety filter: {', '.join(f'{name} {count}' for name, count in summary['counts'].items())}")
    for row, count in summary["rows"].items():
        print(f"  {count:5d}  {row}")
    if summary["largest_slack"] > 0:
        print(f"  rows were missed by up to {summary['largest_slack']:.2g} where no command met them all")
    if summary["assured"] is not None:
        print(f"  assured at {summary['assured']}: no error of the joint angles up to --safety.error could make it act")
