"""Stage times add up, and are those of the right stage."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fermo.benchmarks import profile as profiling
from fermo.benchmarks.contender import Case
from fermo.benchmarks.profile import STAGES, Profile, StageClock, clocks, profile
from fermo.cli import main
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.perturbations.registry import perturbation_class
from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.training.files import read_json
from fermo.training.records import from_json


class Ticks:
    """A clock that the test winds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_inside_another_stage_is_the_others() -> None:
    """By hand: rest 1, physics 10, rest 2, reset 3 with a forward of 20 inside and 4 after, rest 5."""
    ticks = Ticks()
    clock = StageClock(ticks)

    def spend(seconds: float) -> None:
        ticks.now += seconds

    physics = clock.timed("physics", lambda: spend(10))
    forward = clock.timed("forward after reset", lambda: spend(20))
    reset = clock.timed("reset", lambda: (spend(3), forward(), spend(4)))
    clock.timed("rest", lambda: (spend(1), physics(), spend(2), reset(), spend(5)))()
    spend(100)  # outside of everything
    found = {stage: seconds for stage, seconds in clock.seconds.items() if seconds}
    assert found == {"rest": 8, "physics": 10, "reset": 7, "forward after reset": 20}
    assert sum(found.values()) == 45


def test_a_stage_that_raises_is_left() -> None:
    ticks = Ticks()
    clock = StageClock(ticks)

    def fail() -> None:
        ticks.now += 1
        raise ValueError

    with pytest.raises(ValueError):
        clock.timed("physics", fail)()
    ticks.now += 50
    clock.timed("rest", lambda: None)()
    assert clock.seconds["physics"] == 1
    assert clock.seconds["rest"] == 0


def test_clocks_are_gone_afterwards_and_change_nothing() -> None:
    noise = perturbation_class("observation_noise")(0.01)
    env, twin = (VectorEnv(make_task("SO101-Reach"), 2, perturbations=[noise]) for _ in range(2))
    action = torch.zeros(2, env.task.spec.command_size)
    env.reset(seed=1)
    twin.reset(seed=1)
    with clocks(env, StageClock()):
        clocked = env.step(action)[0]
    assert torch.equal(clocked, twin.step(action)[0])
    timed = {name for _, _, names in STAGES for name in names}
    for each in (env, env.task, env.backend, noise):
        assert timed.isdisjoint(vars(each)), "a clock was left behind"


def test_a_renamed_method_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "STAGES", (("physics", "backend", ("no_such_method",)),))
    env = SimpleNamespace(task=None, backend=object(), sim=SimpleNamespace(sensors={}), perturbations=())
    with pytest.raises(FermoError, match="has no method no_such_method to time"), clocks(env, StageClock()):  # type: ignore[arg-type]
        pass


def test_stages_add_up_to_the_step() -> None:
    found = profile(make_task("Hopper"), Case(task="fermo/Hopper-v5", num_envs=4, threads=1), steps=20)
    assert sum(stage.seconds for stage in found.stages) == pytest.approx(found.step_s)
    assert sum(stage.share for stage in found.stages) == pytest.approx(1)
    assert sum(stage.share for stage in found.physics) == pytest.approx(1)
    assert {stage.stage for stage in found.stages} == {stage for stage, _, _ in STAGES}
    spent = {stage.stage: stage.seconds for stage in found.stages}
    assert all(spent[stage] > 0 for stage in ("action map", "physics", "reward", "observation", "rest"))
    assert all(stage.seconds >= 0 for stage in (*found.stages, *found.physics))


def test_profile_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["profile", "Hopper", "--num-envs", "2", "--steps", "3", "--perturb", "observation_noise=0.01",
          "--json", str(tmp_path / "profile.json")])  # fmt: skip
    text = capsys.readouterr().out
    assert text.startswith("fermo/Hopper-v5, N = 2, cpu back end")
    assert "constraint solver" in text
    found = from_json(Profile, read_json(tmp_path / "profile.json"), "profile")
    assert found.steps == 3
    assert next(stage.seconds for stage in found.stages if stage.stage == "perturbations") > 0
