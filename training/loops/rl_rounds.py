"""What happens between two rounds of a learner: metrics, progress, saves, and stopping when asked to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fermo.errors import FermoError
from fermo.training.loops.bc import TrainingInterrupted
from fermo.training.loops.interrupt import deferred_interrupt
from fermo.training.loops.processes import Processes
from fermo.training.loops.rl_config import LearnerConfig


class Rounds:
    """Counts a learner's rounds, inside the block of `running`.

    Attributes:
        done: Rounds so far.
        total: Rounds wanted.
    """

    def __init__(self, config: LearnerConfig, total: int, done: int, folder: Path | None, processes: Processes,
                 save: Callable[[Path], None]) -> None:  # fmt: skip
        self.done, self.total = done, total
        self._config, self._folder, self._processes, self._save = config, folder, processes, save
        self._interrupted: Callable[[], bool] = bool
        self._writer: Any = None
        self._bar: Any = None

    def finish(self, take_metrics: Callable[[], Mapping[str, float]], steps: int) -> None:
        """One round is over: log it, save it, and stop if asked to.

        Args:
            take_metrics: Gives the metrics; called in every process, in the rounds that are logged.
            steps: Control steps so far, of this process's worlds.

        Raises:
            TrainingInterrupted: Ctrl-C was pressed in any of the processes; the state was saved.
            FermoError: A metric is not finite.
        """
        self.done += 1
        last = self.done >= self.total
        if self.done % self._config.log_every == 0 or last:
            self._log(take_metrics(), steps * self._processes.count)
        stop = self._processes.any(self._interrupted())
        if self._folder is not None and (stop or last or self.done % self._config.checkpoint_every == 0):
            if self._writer is not None:
                self._writer.flush()  # a killed process must not lose metrics of rounds that will not be repeated
            self._save(self._folder)
        self._bar.update()
        if stop and not last:
            raise TrainingInterrupted(self.done, self.total, self._folder)

    def _log(self, metrics: Mapping[str, float], steps: int) -> None:
        if not all(map(math.isfinite, metrics.values())):
            raise FermoError(f"training diverged in round {self.done} ({dict(metrics)}): lower the learning rate")
        shown = {name: f"{metrics[f'episode/{name}']:.4g}" for name in ("return", "success")
                 if f"episode/{name}" in metrics}  # fmt: skip
        self._bar.set_postfix(shown, refresh=False)
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, self.done)
            self._writer.add_scalar("learner/steps", steps, self.done)
            self._writer.add_scalar("speed/wall_s", time.perf_counter() - self._started, self.done)

    @contextmanager
    def running(self, title: str) -> Iterator[Rounds]:
        """Within the block Ctrl-C waits for the end of a round, and metrics and a progress bar are open."""
        self._started = time.perf_counter()
        bar = tqdm(total=self.total, initial=self.done, desc=title, unit="round",
                   disable=None if self._processes.first else True)  # fmt: skip
        with deferred_interrupt() as self._interrupted, self._metrics_file() as self._writer, bar as self._bar:
            yield self

    def _metrics_file(self) -> Any:
        if self._folder is None or not self._processes.first:
            return nullcontext()
        from torch.utils.tensorboard import SummaryWriter

        purge = self.done + 1 if self.done else None
        return SummaryWriter(str(self._folder / "tensorboard"), purge_step=purge)
