"""A contender's process, seen from the parent; and the Pythons it may run in."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fermo.benchmarks.contender import Case
from fermo.benchmarks.registry import CONTENDERS, Entry
from fermo.benchmarks.results import Round
from fermo.errors import FermoError

_PACKAGE = Path(__file__).absolute().parent.parent
# A peer's Python has no fermo: the package is shown to it by its place, without the packages installed beside it.
_FIND_FERMO = f"""
import importlib.util, sys
if importlib.util.find_spec("fermo") is None:
    spec = importlib.util.spec_from_file_location("fermo", {str(_PACKAGE / "__init__.py")!r},
                                                  submodule_search_locations=[{str(_PACKAGE)!r}])
    sys.modules["fermo"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["fermo"])
"""
_PROBE = _FIND_FERMO + "from fermo.benchmarks.probe import main\nmain()\n"
# Pinned before anything can start a thread.
_SERVE = "import os, sys\nos.sched_setaffinity(0, set(map(int, sys.argv[1].split(','))))\n" + _FIND_FERMO
_SERVE += "from fermo.benchmarks.worker import main\nmain()\n"
# Engines have threads of their own; those of a numerical library would spin on the same processors between its calls.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class AbsentError(Exception):
    """A contender does not take part; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Python:
    """An interpreter.

    Attributes:
        path: Its executable.
        modules: What contenders require and it has.
        versions: ``"name version"`` of the packages that matter.
    """

    path: str
    modules: frozenset[str]
    versions: tuple[str, ...]

    @classmethod
    def at(cls, path: Path | str) -> Python:
        """Ask an interpreter what it has."""
        # Workers run in another folder; a link is left as it is, since a venv is known by its own link.
        absolute = os.path.abspath(path)
        wanted = sorted({module for entry in CONTENDERS.values() for module in entry.requires})
        try:
            done = subprocess.run([absolute, "-c", _PROBE, *wanted], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise FermoError(f"{path} is no Python that runs ({error}); give VENV/bin/python") from None
        told = json.loads(done.stdout)
        return cls(path=absolute, modules=frozenset(told["modules"]), versions=tuple(told["versions"]))


def python_for(entry: Entry, pythons: Sequence[Python]) -> Python:
    """The first interpreter that has all a contender requires.

    Raises:
        AbsentError: None has; says how to install it.
    """
    for python in pythons:
        if set(entry.requires) <= python.modules:
            return python
    raise AbsentError(f"not installed: {entry.install}")


class WorkerProcess:
    """A contender that is built, warm and waits for its turns.

    Args:
        entry: Which.
        case: What is compared.
        python: Its interpreter.
        folder: Working directory; its error stream is kept there.
        cpus: Processors it may use.

    Raises:
        AbsentError: It cannot run this case, or died; says how. `round` and `memory` may raise it too.
    """

    def __init__(self, entry: Entry, case: Case, python: Python, folder: Path, cpus: Sequence[int]) -> None:
        self._log = folder / f"{entry.target.rpartition(':')[2]}.log"
        with self._log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [python.path, "-c", _SERVE, ",".join(map(str, cpus))], cwd=folder, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | _ONE_THREAD,
            )  # fmt: skip
        try:
            answer = self._ask(json.dumps({"target": entry.target, "case": dataclasses.asdict(case)}))
            if "absent" in answer:
                raise AbsentError(answer["absent"])
        except BaseException:
            self.close()
            raise
        self.num_envs, self.note = answer["ready"]["num_envs"], answer["ready"]["note"]

    def round(self, seconds: float) -> Round:
        """Its turn, of at least so long."""
        return Round(**self._ask(f"round {seconds}"))

    def memory(self) -> tuple[int, int]:
        """Bytes that its worlds took, and the peak of all its processes."""
        answer = self._ask("memory")
        return answer["grown_bytes"], answer["peak_bytes"]

    def close(self) -> None:
        """End it; by force if it does not go."""
        with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
            self._process.communicate(timeout=10)
        self._process.kill()
        self._process.wait()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # its death shows when the answer is read
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            said = [text.strip() for text in self._log.read_text(encoding="utf-8").splitlines() if text.strip()]
            raise AbsentError(f"it failed: {said[-1] if said else 'its process ended without a word'}")
        return json.loads(answer)
