"""One run, one folder: resolved config, provenance, metrics, and a record of each finished stage.

    run = RunFolder.create("runs/demo", config, seeds={"data": 0}, resume=True)
    with run.stage("record") as stage:
        if not stage.done:
            stage.result = {"episodes": record(stage.folder)}

A stage is done once its record exists, and the record is renamed into place only when the block ends well. So a run
killed at any instant resumes at the stage it was in, with that stage's own files (a half-trained checkpoint) intact.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fermo.errors import FermoError
from fermo.training.files import new_folder, plain, read_json, write_json, write_text
from fermo.training.loops.processes import Processes
from fermo.training.provenance import provenance
from fermo.training.stopwatch import stopwatch

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


@dataclass
class Stage:
    """One step of a run, as the block of ``with run.stage(name)`` sees it.

    Attributes:
        name: Unique within the run.
        folder: The stage's own files, kept when a stage is interrupted so that it may continue from them.
        done: Whether an earlier process finished this stage; then `result` is what that process left.
        result: Any JSON the stage wants to hand to later stages and to the report.
    """

    name: str
    folder: Path
    done: bool
    result: dict[str, Any] = field(default_factory=dict)


class RunFolder:
    """A run on disk: ``config.json`` (and ``.yaml``), ``run.json``, ``stages/``, a folder a stage, ``tensorboard/``.

    Make one with `create`, look at a finished one with `open`.
    """

    def __init__(self, path: Path, *, follows: bool = False) -> None:
        self.path = path
        self._follows = follows
        self._entered: list[str] = []

    @classmethod
    def create(cls, path: Path | str, config: Any, *, seeds: Mapping[str, int] | None = None,
               resume: bool = False) -> RunFolder:  # fmt: skip
        """Start a run in a new folder, or continue the one that is there.

        Args:
            path: The run's folder.
            config: The resolved config, a dataclass or a mapping.
            seeds: Every seed the run draws from, by use.
            resume: Continue an existing run of the same config; without one, start.

        Raises:
            FermoError: The run exists and `resume` is false, or it was made with another config or other seeds.
        """
        path = Path(path)
        wanted = {"config": plain(config, "config"), "seeds": plain(dict(seeds or {}), "seeds")}
        if path.exists():
            run = cls.open(path)
            if not resume:
                raise FermoError(f"{path} holds a run already; add --resume to continue it, or choose another folder")
            _require_same({"config": run.config, "seeds": run.seeds}, wanted, path)
            write_json(path / "resumed" / f"{time.time_ns()}.json", provenance())
            return run
        with new_folder(path) as folder:
            write_json(folder / "config.json", wanted["config"])
            write_text(folder / "config.yaml", _yaml(wanted["config"]))
            write_json(folder / "run.json", {"seeds": wanted["seeds"], **provenance()})
        return cls(path)

    @classmethod
    def shared(cls, path: Path | str, config: Any, *, processes: Processes, seeds: Mapping[str, int] | None = None,
               resume: bool = False) -> RunFolder:  # fmt: skip
        """As `create`, by all processes of one training: the first one makes and records, the others write nothing.

        They must enter the same stages, and wait for one another after entering and before leaving.
        """
        run = None
        if processes.first:
            run = cls.create(path, config, seeds=seeds, resume=resume)
        processes.wait()
        return run or cls(cls.open(path).path, follows=True)

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """Look at an existing run. Raises `FermoError` when `path` is not one."""
        path = Path(path)
        for name in ("config.json", "run.json"):
            if not (path / name).is_file():
                raise FermoError(f"{path} is not a run folder: it has no {name}")
        return cls(path)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config as plain JSON."""
        return read_json(self.path / "config.json")

    @property
    def seeds(self) -> dict[str, int]:
        """Every seed of the run, by use."""
        return self.provenance["seeds"]

    @property
    def provenance(self) -> dict[str, Any]:
        """Seeds, versions, commit, machine, command and start time of the process that began the run."""
        return read_json(self.path / "run.json")

    @property
    def finished(self) -> tuple[str, ...]:
        """Names of the stages that are done, in the order they ran."""
        records = [read_json(path) for path in (self.path / "stages").glob("*.json")]
        return tuple(record["name"] for record in sorted(records, key=lambda record: record["position"]))

    def result(self, name: str) -> dict[str, Any]:
        """What stage `name` left. Raises `FermoError` when it is not done."""
        return read_json(self._record(name))["result"]

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Enter the next stage; leaving the block without an exception marks it done.

        Stages are entered in one order. One that has to run again forgets those that followed it, records and folders,
        since they were built on what it is about to replace.

        Raises:
            FermoError: The name was entered before in this process, or is not a plain file name.
        """
        if not _NAME.fullmatch(name) or name in self._entered:
            raise FermoError(f"stage {name!r} must be new in its run, of lower-case letters, digits, '_', '-' and '.'")
        position = len(self._entered)
        self._entered.append(name)
        record = self._record(name)
        folder = self.path / name
        if record.exists():
            yield Stage(name=name, folder=folder, done=True, result=read_json(record)["result"])
            return
        if self._follows:
            yield Stage(name=name, folder=folder, done=False)
            return
        self._forget_from(position)
        folder.mkdir(exist_ok=True)
        stage = Stage(name=name, folder=folder, done=False)
        with stopwatch() as elapsed:
            yield stage
        write_json(record, {"name": name, "position": position, **plain(elapsed), "result": stage.result})

    def metrics(self) -> Any:
        """A new TensorBoard writer on ``tensorboard/``, a `torch.utils.tensorboard.SummaryWriter`; close it."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.path / "tensorboard"))

    def scalars(self, under: str = ".") -> dict[str, list[tuple[int, float]]]:
        """Every scalar in ``tensorboard/`` as ``(step, value)``; a step logged again after a resume counts once.

        Args:
            under: The folder, relative to the run, that holds ``tensorboard/``; a stage's for example.
        """
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        curves: dict[str, dict[int, float]] = {}
        for events in sorted((self.path / under / "tensorboard").glob("events.*")):
            log = EventAccumulator(str(events), size_guidance={"scalars": 0}).Reload()
            for tag in log.Tags()["scalars"]:
                curves.setdefault(tag, {}).update({event.step: event.value for event in log.Scalars(tag)})
        return {tag: sorted(points.items()) for tag, points in sorted(curves.items())}

    def _record(self, name: str) -> Path:
        return self.path / "stages" / f"{name}.json"

    def _forget_from(self, position: int) -> None:
        for path in (self.path / "stages").glob("*.json"):
            record = read_json(path)
            if record["position"] >= position:
                path.unlink()
                shutil.rmtree(self.path / record["name"], ignore_errors=True)


def _require_same(old: Any, new: Any, path: Path, key: str = "") -> None:
    """Raise on the first key at which a run's config and the one asked for differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            _require_same(old.get(name), new.get(name), path, f"{key}.{name}" if key else name)
    elif old != new:
        raise FermoError(f"{path} was made with {key} = {old}, now it is {new}; use the same, or choose another folder")


def _yaml(data: Any, indent: int = 0) -> str:
    """Nested mappings one key a line; what is not a mapping is JSON, which YAML reads too."""
    lines = []
    for key, value in data.items():
        if isinstance(value, dict) and value:
            lines.append(f"{'  ' * indent}{key}:\n{_yaml(value, indent + 1)}")
        else:
            lines.append(f"{'  ' * indent}{key}: {json.dumps(value)}\n")
    return "".join(lines)
