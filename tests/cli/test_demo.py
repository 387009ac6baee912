"""`fermo demo` end to end on the real twin: killed in the middle and resumed, it leaves one page that stands alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fermo.cli import main
from fermo.cli.demo_pipeline import STAGES
from fermo.errors import FermoError
from fermo.training.report import schema
from fermo.training.report.build import build_report
from fermo.training.run_folder import RunFolder

KILLED_IN = "deploy"
BEFORE = STAGES[: STAGES.index(KILLED_IN)]


@dataclass(frozen=True)
class KilledAndResumed:
    """What two processes said, and the records of finished stages when the first one died."""

    folder: Path
    resumed_output: str
    stamps: dict[str, int]


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "fermo", "demo", "--smoke", "--folder", str(folder), *options]


def stamps(folder: Path) -> dict[str, int]:
    """When each stage's record, dataset and weights were written."""
    files = [*folder.glob("stages/*.json"), *folder.glob("train/*/checkpoint/*"), *folder.glob("record/**/*.parquet")]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> KilledAndResumed:
    folder = tmp_path_factory.mktemp("demo") / "run"
    with subprocess.Popen(command(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if line.strip() == f"[{KILLED_IN}]":
                break
        first.kill()
    before = stamps(folder)
    second = subprocess.run(command(folder, "--resume"), capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    return KilledAndResumed(folder, second.stdout, before)


def test_a_killed_demo_does_not_repeat_what_was_finished(demo: KilledAndResumed) -> None:
    assert {f"stages/{name}.json" for name in BEFORE} <= set(demo.stamps)
    after = stamps(demo.folder)
    assert {path: after[path] for path in demo.stamps} == demo.stamps
    assert re.findall(r"^\[(\w+)\]$", demo.resumed_output, re.MULTILINE) == list(STAGES[len(BEFORE) :])
    assert RunFolder.open(demo.folder).finished == STAGES


def test_the_report_is_one_page_that_needs_no_network(demo: KilledAndResumed) -> None:
    page = (demo.folder / "report.html").read_text()
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert page.count("data:video/mp4;base64,") == 2
    assert not re.search(r"https?:|url\(|@import|src=\"//|fetch\(|XMLHttpRequest|import\(", text)
    assert demo.resumed_output.rstrip().endswith(str(demo.folder / "report.html"))


def test_the_loop_on_the_twin_was_timed(demo: KilledAndResumed) -> None:
    deployment = schema.load(demo.folder, schema.Deployment)
    assert deployment.episodes == 1
    assert len(deployment.lateness_s) >= 20  # one second at 25 Hz
    assert min(deployment.periods_s) > 0


def test_both_policies_were_scored_on_the_same_number_of_starts(demo: KilledAndResumed) -> None:
    scores = schema.load(demo.folder, schema.Headline).scores
    assert [score.policy for score in scores] == ["lipschitz_bc", "mlp_bc", "expert"]
    assert {score.trials for score in scores} == {8}
    certificate = schema.load(demo.folder, schema.Certificate)
    assert certificate.by_construction and certificate.steepest_slope_found <= certificate.lipschitz * (1 + 1e-4)


def test_a_report_without_one_of_its_files_fails_and_names_it(demo: KilledAndResumed, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(demo.folder, copy)
    (copy / "report.html").unlink()
    (copy / schema.Deployment.file).unlink()
    with pytest.raises(FermoError, match=re.escape(schema.Deployment.file)):
        build_report(copy)
    assert not (copy / "report.html").exists()


@pytest.mark.parametrize(
    "options, advice", [([], "add --resume"), (["--resume", "--seed", "1"], "was made with seeds.demonstrations = 0")]
)
def test_a_finished_run_is_neither_overwritten_nor_mixed_with_another(
    options: list[str], advice: str, demo: KilledAndResumed, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command(demo.folder)[3:], *options])
    assert end.value.code == 2
    assert advice in capsys.readouterr().err
