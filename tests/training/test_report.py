"""The report is one page made of the run's files, all of them, and of nothing from outside."""

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fermo.errors import FermoError
from fermo.policies.checkpoint import save_checkpoint
from fermo.policies.lipschitz_bc.config import LipschitzBcConfig
from fermo.policies.registry import make_policy
from fermo.signal import PlantSpec, Signal
from fermo.training.files import plain
from fermo.training.records import from_json
from fermo.training.report import schema
from fermo.training.report.build import build_report
from fermo.training.report.svg import Line, axis_at, axis_over, line_chart, percent_axis
from fermo.training.run_folder import RunFolder
from fermo.training.statistics import newcombe_paired, wilson
from tests.training.report_example import make_run

RECORDS = (schema.Headline, schema.Robustness, schema.Certificate, schema.PairedSweep, schema.Deployment,
           schema.Differences, schema.Training)  # fmt: skip
FILES = (*(record.file for record in RECORDS), schema.SIM_VIDEO, schema.TWIN_VIDEO, "run.json", "config.json")
VOID = {"meta", "line", "circle", "rect", "polygon", "polyline"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(example) -> str:
    path = build_report(example.path)
    assert path == example.path / "report.html"
    return path.read_text()


def test_page_is_well_formed_and_needs_nothing_from_outside(page):
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert outline.links and all(link.startswith("data:video/mp4;base64,") for link in outline.links)
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?:|url\(|@import|src=\"//|fetch\(|XMLHttpRequest|import\(", text)


def test_page_shows_every_section(page):
    for title in ("Success without perturbation", "Robustness", "Certificate", "What the constraint costs", "Seen",
                  "On the robot’s wire", "What differs between simulator", "Training", "come from"):  # fmt: skip
        assert title in page
    outline = Outline()
    outline.feed(page)
    assert outline.tags.count("video") == 2
    assert outline.tags.count("figcaption") == outline.tags.count("figure") == 6 + 2 + 2 + 2


def test_page_shows_the_numbers_of_the_run(page, example):
    for score in schema.load(example.path, schema.Headline).scores:
        rate = wilson(score.successes, score.trials)
        assert f"{100 * rate.value:.1f} %" in page and f"{100 * rate.low:.1f} to {100 * rate.high:.1f} %" in page
    sweep = schema.load(example.path, schema.PairedSweep)
    for row in sweep.rows:
        difference = newcombe_paired(row.both, row.only_constrained, row.only_unconstrained, row.neither)
        limits = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
        assert limits.replace("-", "\N{MINUS SIGN}") in page
    attack = schema.load(example.path, schema.Robustness).curves[4]
    points = sum(len(series.trials) for curve in schema.load(example.path, schema.Robustness).curves
                 for series in curve.series)  # fmt: skip
    assert page.count('class="hit"') == points
    assert f"({attack.series[3].successes[-1]} of 64)" in page
    assert example.provenance["machine"]["cpu"] in page and "training 1" in page


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["removed", "truncated"])
def test_a_missing_or_damaged_file_fails_the_build_and_is_named(tmp_path, name, how):
    run = make_run(tmp_path / "run")
    path = run.path / name
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(FermoError, match=re.escape(path.name)) as error:
        build_report(run.path)
    assert "\n" not in str(error.value)
    assert not (run.path / "report.html").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(FermoError, match="not a run folder"):
        build_report(tmp_path)


def test_text_is_escaped(tmp_path):
    run = make_run(tmp_path / "run")
    headline = plain(schema.load(run.path, schema.Headline))
    headline["scores"][0]["label"] = "<script>alert(1)</script> & co"
    schema.save(run.path, from_json(schema.Headline, headline, "test"))
    page = build_report(run.path).read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in page


@pytest.mark.parametrize("kind", RECORDS)
def test_records_round_trip(example, kind):
    record = schema.load(example.path, kind)
    assert from_json(kind, json.loads(json.dumps(plain(record))), "test") == record


@pytest.mark.parametrize(("change", "says"), [
    ({"task": 3}, "headline.json: task: expected str, found 3"),
    ({"task": None}, "expected str"),
    ({"extra": 1}, "has the unknown key 'extra'"),
    ({"scores": "none"}, "scores: expected a list"),
    ({"scores": [{"policy": "a", "label": "A", "successes": 5}]}, r"scores\[0\] lacks key 'trials'"),
    ({"scores": [{"policy": "a", "label": "A", "successes": 5, "trials": 4}]}, "successes <= trials"),
    ({"scores": [{"policy": "a", "label": "A", "successes": True, "trials": 4}]}, "expected int, found True"),
])  # fmt: skip
def test_a_record_of_the_wrong_form_names_its_key(example, tmp_path, change, says):
    data = plain(schema.load(example.path, schema.Headline))
    path = tmp_path / schema.Headline.file
    path.parent.mkdir()
    path.write_text(json.dumps({**data, **change}))
    with pytest.raises(FermoError, match=says):
        schema.load(tmp_path, schema.Headline)


def test_certificate_is_the_readable_part_of_the_checkpoints(example, tmp_path):
    record = schema.load(example.path, schema.Certificate)
    data = plain(record) | {"weights_sha256": "0" * 64, "observation_std": [1.0]}
    data["sensitivity"][0]["method"] = "LipLT"
    (tmp_path / "certificate.json").write_text(json.dumps(data))
    assert schema.Certificate.of_checkpoint(tmp_path) == record
    (tmp_path / "certificate.json").write_text("{}")
    with pytest.raises(FermoError, match=r"certificate\.json lacks key"):
        schema.Certificate.of_checkpoint(tmp_path)


def test_certificate_of_a_real_checkpoint(tmp_path):
    spec = PlantSpec(
        observations=(Signal.uniform(name="joint_position", shape=(2,), unit="rad"),),
        commands=(Signal.uniform(name="joint_target", shape=(2,), unit="rad", low=-1.0, high=1.0),),
        rate_hz=25.0,
    )
    save_checkpoint(make_policy("lipschitz_bc", spec, LipschitzBcConfig(hidden=(32, 32))), tmp_path / "checkpoint")
    record = schema.Certificate.of_checkpoint(tmp_path / "checkpoint")
    assert 0 < record.steepest_slope_found <= record.lipschitz * (1 + 1e-6)
    assert [(row.observation, row.command) for row in record.sensitivity] == [("joint_position", "joint_target")]


def test_schema_refuses_what_cannot_be_drawn():
    series = schema.Series(policy="a", label="A", successes=(1,), trials=(2,))
    with pytest.raises(ValueError, match="must increase"):
        schema.Curve(kind="k", title="", unit="1", sentence="", severities=(1.0, 0.5), series=())
    with pytest.raises(ValueError, match="needs 2 counts"):
        schema.Curve(kind="k", title="", unit="1", sentence="", severities=(0.0, 0.5), series=(series,))
    with pytest.raises(ValueError, match="not in the sweep"):
        schema.PairedSweep(chosen=1.0, rows=())
    with pytest.raises(ValueError, match="2 steps and 1 values"):
        schema.TrainingLine(policy="a", label="A", steps=(0, 1), values=(0.0,))


@settings(max_examples=40, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_inside_and_few(low, span):
    axis = axis_over("x", low, low + span)
    assert 1 <= len(axis.ticks) <= 7
    assert all(axis.low - 1e-6 * span <= tick <= axis.high + 1e-6 * span for tick in axis.ticks)
    if len(axis.ticks) > 1:
        step = axis.ticks[1] - axis.ticks[0]
        assert min(abs(step / 10 ** math.floor(math.log10(step * 1.0001)) - k) for k in (1, 2, 2.5, 5)) < 1e-2


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_lines_stay_inside_their_chart(rates):
    y, x = np.array(rates), np.arange(len(rates), dtype=float)
    line = Line(label="a", colour="c0", x=x, y=y, low=y, high=y, tips=("tip",) * len(y))
    chart = line_chart("name", [line], axis_at("x", x.tolist()), percent_axis("y"))
    pairs = " ".join(re.findall(r'points="([^"]+)"', chart)).split()
    points = [tuple(map(float, pair.split(","))) for pair in pairs]
    assert len(points) == 3 * len(rates)
    assert all(46 <= left <= 384 and 12 <= top <= 196 for left, top in points)
