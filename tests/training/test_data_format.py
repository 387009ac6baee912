"""Datasets round-trip, keep the LeRobot v3 format, and say in one line what is wrong with a damaged one."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fermo.errors import FermoError
from fermo.signal import PlantSpec, Signal
from fermo.training.data import lerobot_v3 as v3
from fermo.training.data.check import check_format
from fermo.training.data.reader import Dataset
from fermo.training.data.writer import DatasetWriter


def plant(observations: int = 3, commands: int = 2, rate_hz: float = 25.0) -> PlantSpec:
    return PlantSpec(
        observations=(
            Signal.uniform(name="joint_position", shape=(observations,), unit="rad"),
            Signal.uniform(name="gripper", shape=(1,), unit="rad", low=0.0, high=1.7),
        ),
        commands=(Signal.uniform(name="joint_target", shape=(commands,), unit="rad", low=-1.0, high=1.0),),
        rate_hz=rate_hz,
    )


def record(folder: Path, spec: PlantSpec, lengths=(4, 1, 7), seed: int = 0, **options) -> list[dict]:
    rng = np.random.default_rng(seed)
    episodes = []
    with DatasetWriter(folder, spec=spec, robot_type="so101", tasks=("lift the cube", "reach"), **options) as writer:
        for number, length in enumerate(lengths):
            episode = {
                "observations": rng.normal(size=(length, spec.observation_size)).astype(np.float32),
                "actions": rng.normal(size=(length, spec.command_size)).astype(np.float32),
                "success": bool(rng.random() < 0.5),
                "task": ("lift the cube", "reach")[number % 2],
                "extras": {"next.reward": rng.normal(size=length).astype(np.float32),
                           "clean_action": rng.normal(size=(length, 2)).astype(np.float32)},
            }  # fmt: skip
            assert writer.add_episode(**episode) == number
            episodes.append(episode)
    return episodes


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "set"
    record(folder, plant())
    return folder


@pytest.fixture
def damaged(recorded, tmp_path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "set"))


@settings(max_examples=15, deadline=None)
@given(
    widths=st.tuples(st.integers(1, 5), st.integers(1, 3)),
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    rate=st.sampled_from([25.0, 50.0, 12.5, 30.0]),
    seed=st.integers(0, 2**31),
)
def test_random_episodes_round_trip_and_keep_the_format(tmp_path_factory, widths, lengths, rate, seed):
    folder, spec = tmp_path_factory.mktemp("data") / "set", plant(*widths, rate_hz=rate)
    episodes = record(folder, spec, lengths, seed)
    check_format(folder)
    dataset = Dataset.open(folder)
    assert dataset.spec == spec
    assert dataset.lengths.tolist() == list(lengths) and len(dataset) == sum(lengths)
    np.testing.assert_array_equal(dataset.observations, np.concatenate([e["observations"] for e in episodes]))
    np.testing.assert_array_equal(dataset.actions, np.concatenate([e["actions"] for e in episodes]))
    for key in ("next.reward", "clean_action"):
        np.testing.assert_array_equal(dataset.extras[key], np.concatenate([e["extras"][key] for e in episodes]))
    assert dataset.success.tolist() == [e["success"] for e in episodes]
    assert list(dataset.tasks) == [e["task"] for e in episodes]


def test_filter_keeps_whole_episodes_renumbered(tmp_path):
    spec = plant()
    episodes = record(tmp_path / "set", spec, lengths=range(1, 12))
    dataset = Dataset.open(tmp_path / "set")
    for success in (True, False):
        kept = [e for e in episodes if e["success"] == success]
        part = dataset.filter(success=success)
        assert part.episodes == len(kept) and part.success.tolist() == [success] * len(kept)
        assert part.lengths.tolist() == [len(e["actions"]) for e in kept]
        np.testing.assert_array_equal(part.actions, np.concatenate([e["actions"] for e in kept]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.lists(st.integers(-12, 12), min_size=1, max_size=4))
def test_a_window_stays_in_its_episode_and_repeats_its_ends(lengths, offsets):
    index, frames = np.repeat(np.arange(len(lengths)), lengths), sum(lengths)
    empty = np.zeros((frames, 0), dtype=np.float32)
    dataset = Dataset(spec=plant(), observations=empty, actions=empty, episode_index=index,
                      success=np.ones(len(lengths), dtype=bool), tasks=("reach",) * len(lengths))  # fmt: skip
    found = dataset.window(offsets)
    for frame in range(frames):
        own = [other for other in range(frames) if index[other] == index[frame]]
        assert list(found[frame]) == [own[0] if frame + k < own[0] else own[-1] if frame + k > own[-1] else frame + k
                                      for k in offsets]  # fmt: skip


def test_episodes_are_never_split_over_files(tmp_path):
    record(tmp_path / "set", plant(observations=60), lengths=[1500] * 8, file_mb=1)
    assert len(list((tmp_path / "set/data").glob("*/*.parquet"))) > 2
    check_format(tmp_path / "set")
    assert Dataset.open(tmp_path / "set").lengths.tolist() == [1500] * 8


def test_a_scalar_plant_keeps_its_width(tmp_path):
    signal = Signal.uniform(name="angle", shape=(1,), unit="rad")
    torque = Signal.uniform(name="torque", shape=(1,), unit="N m")
    spec = PlantSpec(observations=(signal,), commands=(torque,), rate_hz=10)
    with DatasetWriter(tmp_path / "set", spec=spec, robot_type="pendulum", tasks=("swing",)) as writer:
        writer.add_episode(np.zeros((3, 1)), np.ones((3, 1)), success=True, task="swing")
    check_format(tmp_path / "set")
    assert Dataset.open(tmp_path / "set").observations.shape == (3, 1)


def test_elements_are_named_after_signals():
    matrix = Signal.uniform(name="pose", shape=(2, 2), unit="1")
    assert v3.element_names((matrix,)) == ("pose.0.0", "pose.0.1", "pose.1.0", "pose.1.1")
    assert v3.features_of(plant())[v3.STATE].names == (*(f"joint_position.{i}" for i in range(3)), "gripper")


def good(spec: PlantSpec, frames: int = 4) -> dict:
    return {"observations": np.zeros((frames, spec.observation_size)), "actions": np.zeros((frames, spec.command_size)),
            "success": True, "task": "reach"}  # fmt: skip


@pytest.mark.parametrize(("change", "says"), [
    ({"observations": np.full((4, 4), np.nan)}, "episode 1: 'observation.state' is not finite at frame 0"),
    ({"actions": np.full((4, 2), 1e300)}, "'action' is not finite"),
    ({"actions": np.zeros((4, 3))}, r"'action' has shape \(4, 3\), the dataset needs \(4, 2\)"),
    ({"actions": np.zeros((3, 2))}, "'action' has shape"),
    ({"observations": np.zeros((0, 4)), "actions": np.zeros((0, 2))}, "no frames"),
    ({"task": "reech"}, "did you mean 'reach'"),
    ({"extras": {"next.reward": np.zeros(4)}}, "brings 'next.reward'"),
    ({"extras": {"index": np.zeros(4)}}, "cannot name"),
    ({"extras": {"a/b": np.zeros(4)}}, "cannot name"),
    ({"extras": {"word": np.array(["a"] * 4)}}, "must be boolean, integer or floating"),
])  # fmt: skip
def test_a_bad_episode_is_refused_and_nothing_is_left(tmp_path, change, says):
    spec = plant()
    with (
        pytest.raises(FermoError, match=says) as error,
        DatasetWriter(tmp_path / "set", spec=spec, robot_type="so101", tasks=("reach",)) as writer,
    ):
        writer.add_episode(**good(spec))
        writer.add_episode(**{**good(spec), **change})
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_no_episode_or_an_existing_folder_is_refused(tmp_path):
    spec = plant()
    with pytest.raises(FermoError, match="no episode"), \
            DatasetWriter(tmp_path / "set", spec=spec, robot_type="so101", tasks=("reach",)):
        pass
    assert list(tmp_path.iterdir()) == []
    record(tmp_path / "set", spec)
    with pytest.raises(FermoError, match="exists already"):
        record(tmp_path / "set", spec)
    with pytest.raises(FermoError, match="at least one observation"):
        nothing = PlantSpec(observations=(), commands=(), rate_hz=1)
        DatasetWriter(tmp_path / "x", spec=nothing, robot_type="", tasks=("a",))


@pytest.mark.parametrize("name", [v3.INFO_PATH, v3.STATS_PATH, v3.TASKS_PATH, v3.SPEC_PATH,
                                  v3.EPISODES_PATH.format(chunk_index=0, file_index=0),
                                  v3.DATA_PATH.format(chunk_index=0, file_index=0)])  # fmt: skip
@pytest.mark.parametrize("how", ["removed", "truncated", "emptied", "garbled"])
def test_a_damaged_file_is_named_in_one_line(damaged, name, how):
    path = damaged / name
    content = path.read_bytes()
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes({"truncated": content[: len(content) // 2], "emptied": b"", "garbled": b"\xff\x00" * 100}[how])
    with pytest.raises(FermoError) as error:
        check_format(damaged)
    message = str(error.value)
    assert "\n" not in message and str(damaged) in message
    assert path.name in message or path.parts[-3] in message or name in message
    if name not in (v3.STATS_PATH, v3.TASKS_PATH):
        with pytest.raises(FermoError):
            Dataset.open(damaged)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_flipped_bytes_never_give_more_than_a_one_line_error(recorded, tmp_path_factory, data):
    folder = Path(shutil.copytree(recorded, tmp_path_factory.mktemp("flipped") / "set"))
    path = data.draw(st.sampled_from(sorted(file for file in folder.rglob("*") if file.is_file())))
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    for look in (check_format, Dataset.open):
        try:
            look(folder)
        except FermoError as error:
            assert "\n" not in str(error)


def edit_parquet(path: Path, column: str, change) -> None:
    table = pq.read_table(path)
    number, field = table.schema.get_field_index(column), table.schema.field(column)
    changed = pa.array(change(table[column].to_pylist()), field.type)
    pq.write_table(table.set_column(number, field, changed), path)


def bump_last(values: list) -> list:
    last = values[-1]
    return [*values[:-1], [last[0] + 1, *last[1:]] if isinstance(last, list) else last + 1]


@pytest.mark.parametrize("column", [*v3.BOOKKEEPING, v3.STATE, v3.ACTION])
def test_a_changed_frame_is_found(damaged, column):
    path = damaged / v3.DATA_PATH.format(chunk_index=0, file_index=0)
    change = bump_last if column != "task_index" else lambda values: [value + 1 for value in values]
    edit_parquet(path, column, change)
    with pytest.raises(FermoError, match=column.replace(".", r"\.")):
        check_format(damaged)


@pytest.mark.parametrize("column", [
    "dataset_from_index", "dataset_to_index", "length", "episode_index", "data/file_index", "stats/action/mean",
    "stats/timestamp/count", "stats/next.reward/q90",
])  # fmt: skip
def test_a_changed_episode_row_is_found(damaged, column):
    edit_parquet(damaged / v3.EPISODES_PATH.format(chunk_index=0, file_index=0), column, bump_last)
    with pytest.raises(FermoError):
        check_format(damaged)


def test_flipped_labels_are_found(damaged):
    path = damaged / v3.EPISODES_PATH.format(chunk_index=0, file_index=0)
    edit_parquet(path, "success", lambda values: [not value for value in values])
    with pytest.raises(FermoError, match=r"next\.success"):
        check_format(damaged)


@pytest.mark.parametrize(("key", "value", "says"), [
    ("codebase_version", "v2.1", "codebase_version is 'v2.1'"), ("total_frames", 13, "says 13"),
    ("total_episodes", 2, "splits"), ("total_tasks", 1, "task_index"), ("features", {}, "disagree|missing"),
    ("video_path", "videos/x.mp4", "no feature is a video"), ("chunks_size", None, "chunks_size"),
    ("fps", 50, "timestamp"),
])  # fmt: skip
def test_a_changed_info_is_found(damaged, key, value, says):
    path = damaged / v3.INFO_PATH
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(FermoError, match=says):
        check_format(damaged)


def test_changed_statistics_are_found(damaged):
    path = damaged / v3.STATS_PATH
    stats = json.loads(path.read_text())
    stats["action"]["std"][1] *= 1.01
    path.write_text(json.dumps(stats))
    with pytest.raises(FermoError, match=r"action\.std"):
        check_format(damaged)


def test_statistics_are_those_of_numpy():
    x = np.random.default_rng(0).normal(size=(50, 2))
    stats = v3.statistics(x)
    np.testing.assert_allclose(stats["std"] ** 2, (x**2).mean(axis=0) - x.mean(axis=0) ** 2)
    np.testing.assert_allclose(stats["q50"], np.median(x, axis=0))
    assert stats["count"].tolist() == [50] and math.isclose(stats["max"][0], x[:, 0].max())
