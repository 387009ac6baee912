"""Where a task's step goes: clocks around the stage methods of an environment, for as long as it is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mujoco
import torch
from gymnasium.vector import AutoresetMode

from fermo.benchmarks.contender import Case
from fermo.benchmarks.launches import Launches, count_launches
from fermo.benchmarks.record import record, task_actions
from fermo.benchmarks.trace import Trace
from fermo.envs.core.task import Task
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.perturbations.base import Perturbation
from fermo.errors import FermoError

# Which methods of whom belong to a stage. A method's time is without that of the others it calls.
STAGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("action map", "task", ("ctrl",)),
    ("physics", "backend", ("step",)),
    ("sensors", "sensor", ("update", "reset")),
    ("reward", "task", ("reward", "total")),
    ("termination", "task", ("terminated", "success")),
    ("observation", "env", ("_observe",)),
    ("reset", "env", ("_reset",)),
    ("reset", "backend", ("reset",)),
    ("reset", "task", ("initial_state",)),
    ("forward after reset", "backend", ("forward",)),
    ("perturbations", "perturbation", ("action", "before_step", "observation", "reset")),
    ("rest", "env", ("eager_step",)),
)
_PHASES = {
    "kinematics": "POS_KINEMATICS", "inertia": "POS_INERTIA", "collision": "POS_COLLISION",
    "constraint building": "POS_MAKE", "constraint projection": "POS_PROJECT", "velocity": "VELOCITY",
    "actuation": "ACTUATION", "constraint solver": "CONSTRAINT",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Share:
    """One stage.

    Attributes:
        stage: Its name.
        seconds: Mean time of a step that goes there [s].
        share: Of the whole step, 0 to 1.
    """

    stage: str
    seconds: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where the steps of a task go.

    Attributes:
        task: Its name.
        num_envs: N.
        backend: ``"cpu"`` or ``"warp"``.
        device: Where the worlds live.
        steps: How many were measured.
        step_s: Mean time of a step with the clocks in place [s].
        bare_step_s: Median time of a step without them; on CUDA, of the captured graph [s].
        stages: In the order of a step; they add up to `step_s`.
        physics: MuJoCo's own split of physics, shares of its step, from its timers on one world.
        launches: Operations that one step asks the device for; None on the CPU back end, where that is no measure.
    """

    task: str
    num_envs: int
    backend: str
    device: str
    steps: int
    step_s: float
    bare_step_s: float
    stages: tuple[Share, ...]
    physics: tuple[Share, ...]
    launches: Launches | None = None


class StageClock:
    """Time by stage: what a stage takes while another runs inside it is the other's."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = dict.fromkeys((stage for stage, _, _ in STAGES), 0.0)
        self._now, self._running, self._since = now, [], 0.0

    def timed(self, stage: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """`method`, clocked."""

        def clocked(*arguments: Any, **named: Any) -> Any:
            self._charge()
            self._running.append(stage)
            try:
                return method(*arguments, **named)
            finally:
                self._charge()
                self._running.pop()

        return clocked

    def _charge(self) -> None:
        """Time since the last change goes to the innermost stage."""
        now = self._now()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now


def profile(task: Task, case: Case, steps: int, perturbations: Sequence[Perturbation] = ()) -> Profile:
    """Step `task` with everybody's actions, from states that it meets when episodes have spread out."""
    life = record(task, case)
    options = {"num_threads": case.threads} if case.backend == "cpu" else {"device": case.device}
    env = VectorEnv(task, case.num_envs, backend=case.backend, seed=case.seed, perturbations=perturbations,
                    autoreset_mode=AutoresetMode.SAME_STEP, backend_options=options)  # fmt: skip
    actions = torch.from_numpy(task_actions(task, case)).to(env.device)
    env.reset()
    env.backend.set_state(torch.from_numpy(life.over(case.num_envs).start))
    for action in actions:
        env.step(action)
    bare = [_duration(env, lambda action=action: env.step(action)) for action in _cycle(actions, steps)]
    env.eager_step(actions[0])
    clock = StageClock(lambda: _now(env))
    with clocks(env, clock):
        for action in _cycle(actions, steps):
            env.eager_step(action)
    whole = sum(clock.seconds.values())
    return Profile(
        task=task.name, num_envs=case.num_envs, backend=case.backend, device=str(env.device), steps=steps,
        step_s=whole / steps, bare_step_s=sorted(bare)[steps // 2],
        stages=tuple(Share(stage=stage, seconds=seconds / steps, share=seconds / whole)
                     for stage, seconds in clock.seconds.items()),
        physics=physics_split(task, life),
        launches=count_launches(task, min(case.num_envs, 2)) if case.backend == "warp" else None,
    )  # fmt: skip


@contextmanager
def clocks(env: VectorEnv, clock: StageClock) -> Iterator[None]:
    """Clock every method of `STAGES` while the block runs.

    Raises:
        FermoError: An object has no such method any more.
    """
    owners: dict[str, Sequence[Any]] = {"env": [env], "task": [env.task], "backend": [env.backend],
                                        "sensor": list(env.sim.sensors.values()),
                                        "perturbation": env.perturbations}  # fmt: skip
    placed: list[tuple[Any, str]] = []
    try:
        for stage, owner, names in STAGES:
            for each in owners[owner]:
                for name in names:
                    method = getattr(each, name, None)
                    if method is None:
                        raise FermoError(f"{type(each).__name__} has no method {name} to time: mend profile.STAGES")
                    object.__setattr__(each, name, clock.timed(stage, method))  # perturbations are frozen
                    placed.append((each, name))
        yield
    finally:
        for each, name in placed:
            object.__delattr__(each, name)


def physics_split(task: Task, life: Trace) -> tuple[Share, ...]:
    """Shares of a physics step by MuJoCo's timers: one world of `life` after the other, on this thread."""
    data = mujoco.MjData(task.model)
    spent = dict.fromkeys(_PHASES, 0.0)
    whole = 0.0
    for world, state in enumerate(life.start):
        mujoco.mj_setState(task.model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        data.ctrl[:] = life.ctrl[0, world]
        for timer in data.timer:
            timer.duration = 0.0
        mujoco.mj_step(task.model, data, nstep=task.substeps)
        whole += data.timer[mujoco.mjtTimer.mjTIMER_STEP].duration
        for name, timer in _PHASES.items():
            spent[name] += data.timer[getattr(mujoco.mjtTimer, f"mjTIMER_{timer}")].duration
    spent["integration and the rest"] = whole - sum(spent.values())
    calls = len(life.start)
    return tuple(Share(stage=name, seconds=took / calls, share=took / whole) for name, took in spent.items())


def _cycle(actions: torch.Tensor, steps: int) -> Iterator[torch.Tensor]:
    return (actions[index % len(actions)] for index in range(steps))


def _duration(env: VectorEnv, work: Callable[[], Any]) -> float:
    start = _now(env)
    work()
    return _now(env) - start


def _now(env: VectorEnv) -> float:
    """The time when everything asked of the device is done."""
    if env.device.type == "cuda":
        torch.cuda.synchronize(env.device)
    return time.perf_counter()
