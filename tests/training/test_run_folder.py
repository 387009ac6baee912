"""A run survives being killed, and never mixes with another one."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fermo.errors import FermoError
from fermo.training.files import new_folder, read_json, write_json
from fermo.training.provenance import git_commit, provenance
from fermo.training.run_folder import RunFolder, _yaml

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(data=json_values)
def test_json_round_trip(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("json") / "data.json"
    write_json(path, data)
    assert read_json(path) == data
    assert [file.name for file in path.parent.iterdir()] == ["data.json"]


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, kw_only=True)
class Config:
    rate: float = 3e-4
    sizes: tuple[int, ...] = (256, 256)
    colour: Colour = Colour.RED
    folder: Path = Path("x")


def test_json_takes_dataclasses_and_numpy(tmp_path):
    write_json(tmp_path / "a.json", {"config": Config(), "array": np.arange(3), "scalar": np.float32(0.5)})
    assert read_json(tmp_path / "a.json") == {
        "config": {"rate": 3e-4, "sizes": [256, 256], "colour": "red", "folder": "x"},
        "array": [0, 1, 2],
        "scalar": 0.5,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, np.array([0.0, np.nan])])
def test_json_refuses_what_it_cannot_say_and_keeps_the_old_file(tmp_path, value):
    path = tmp_path / "metrics.json"
    write_json(path, {"loss": 1.0})
    with pytest.raises(FermoError, match=r"metrics\.json\.train\.loss.* is (nan|inf)"):
        write_json(path, {"train": {"loss": value}})
    assert read_json(path) == {"loss": 1.0}


@pytest.mark.parametrize(("text", "says"), [('{"a": 1', "truncated"), ("", "truncated"), ('{"a": NaN}', "NaN")])
def test_bad_json_is_one_line(tmp_path, text, says):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(FermoError, match=says) as error:
        read_json(tmp_path / "bad.json")
    assert "bad.json" in str(error.value) and "\n" not in str(error.value)


def test_missing_json_is_named(tmp_path):
    with pytest.raises(FermoError, match=r"gone\.json does not exist"):
        read_json(tmp_path / "gone.json")


def test_new_folder_is_whole_or_absent(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out") as folder:
        (folder / "half").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "out") as folder:
        (folder / "whole").write_text("whole")
    assert (tmp_path / "out" / "whole").read_text() == "whole"
    with pytest.raises(FermoError, match="exists already"), new_folder(tmp_path / "out"):
        pass


def test_what_a_killed_process_left_is_cleared(tmp_path):
    script = ("import sys, time; from fermo.training.files import new_folder\n"
              "with new_folder(sys.argv[1]) as folder: (folder / 'half').touch(); time.sleep(60)")  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "out")])
    while not list(tmp_path.glob(".out.*.tmp/half")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "out").exists()
    with new_folder(tmp_path / "out"):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_run_says_what_made_it(tmp_path):
    run = RunFolder.create(tmp_path / "run", Config(), seeds={"data": 3})
    assert run.seeds == {"data": 3}
    assert run.config["sizes"] == [256, 256]
    made_by = run.provenance
    assert made_by["versions"]["python"].startswith("3.")
    assert made_by["machine"]["cores"] >= 1 and made_by["machine"]["memory_gib"] > 0
    assert "sizes: [256, 256]\n" in (run.path / "config.yaml").read_text()
    commit = git_commit()
    assert commit is None or len(commit["commit"]) == 40
    assert provenance().keys() == {"started", "command", "versions", "git", "machine"}


def test_config_yaml_nests_and_parses():
    text = _yaml({"a": {"b": 1, "c": {"d": [1, None]}}, "e": "x: y", "f": {}})
    assert text == 'a:\n  b: 1\n  c:\n    d: [1, null]\ne: "x: y"\nf: {}\n'


def test_an_existing_run_is_not_overwritten(tmp_path):
    RunFolder.create(tmp_path / "run", Config())
    with pytest.raises(FermoError, match="--resume"):
        RunFolder.create(tmp_path / "run", Config())
    assert RunFolder.create(tmp_path / "run", Config(), resume=True).config == RunFolder.open(tmp_path / "run").config
    with pytest.raises(FermoError, match=r"config\.rate = 0\.0003, now it is 0\.1"):
        RunFolder.create(tmp_path / "run", Config(rate=0.1), resume=True)
    with pytest.raises(FermoError, match=r"seeds\.data"):
        RunFolder.create(tmp_path / "run", Config(), seeds={"data": 1}, resume=True)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(FermoError, match="not a run folder"):
        RunFolder.create(tmp_path / "photos", Config(), resume=True)


def test_stages_are_skipped_once_done_and_redone_when_an_earlier_one_is(tmp_path):
    def pipeline(run: RunFolder) -> list[str]:
        ran = []
        for name in ("record", "train", "report"):
            with run.stage(name) as stage:
                if not stage.done:
                    ran.append(name)
                    stage.result = {"from": name}
            assert stage.result == {"from": name}
        return ran

    def resumed() -> RunFolder:
        return RunFolder.create(tmp_path / "run", Config(), resume=True)

    assert pipeline(resumed()) == ["record", "train", "report"]
    assert pipeline(resumed()) == []
    assert resumed().finished == ("record", "train", "report")
    assert resumed().result("train") == {"from": "train"}
    (tmp_path / "run" / "stages" / "train.json").unlink()
    assert pipeline(resumed()) == ["train", "report"]


def test_a_stage_that_fails_is_not_done_and_keeps_its_files(tmp_path):
    run = RunFolder.create(tmp_path / "run", {})
    with pytest.raises(KeyboardInterrupt), run.stage("train") as stage:
        (stage.folder / "step-100").write_text("weights")
        raise KeyboardInterrupt
    with RunFolder.open(run.path).stage("train") as stage:
        assert not stage.done
        assert (stage.folder / "step-100").read_text() == "weights"


@pytest.mark.parametrize("name", ["../up", "", "Train", "train"])
def test_stage_names_are_plain_and_new(tmp_path, name):
    run = RunFolder.create(tmp_path / "run", {})
    with run.stage("train"):
        pass
    with pytest.raises(FermoError, match="must be new"), run.stage(name):
        pass


KILLED = """
import sys, time
from fermo.training.run_folder import RunFolder
run = RunFolder.create(sys.argv[1], {"steps": 3}, resume=True)
with run.stage("record") as stage:
    stage.result = {"episodes": 7}
with run.stage("train") as stage:
    for step in range(1000):
        (stage.folder / f"step-{step}").write_text("")
        time.sleep(0.01)
"""


def test_a_killed_run_resumes_in_the_stage_it_was_in(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "run")])
    marker = tmp_path / "run" / "train" / "step-3"
    while not marker.exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    run = RunFolder.create(tmp_path / "run", {"steps": 3}, resume=True)
    with run.stage("record") as record, run.stage("train") as train:
        assert record.done and record.result == {"episodes": 7}
        assert not train.done and marker.exists()


def test_a_kill_during_json_writes_never_leaves_a_part(tmp_path):
    path = tmp_path / "data.json"
    script = ("import sys; from fermo.training.files import write_json\n"
              "for n in range(10**9): write_json(sys.argv[1], [n] * 20000)")  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", script, str(path)])
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)
    process.kill()
    process.wait()
    data = json.loads(path.read_text())
    assert len(data) == 20000 and len(set(data)) == 1


def test_metrics_come_back_once_a_step(tmp_path):
    run = RunFolder.create(tmp_path / "run", {})
    for steps in ((0, 1, 2), (2, 3)):  # a resumed loop logs step 2 again
        with run.metrics() as writer:
            for step in steps:
                writer.add_scalar("loss", 1.0 / (1 + step) + 10 * len(steps), step)
    curve = run.scalars()["loss"]
    assert [step for step, _ in curve] == [0, 1, 2, 3]
    assert curve[2][1] == pytest.approx(1 / 3 + 20)
