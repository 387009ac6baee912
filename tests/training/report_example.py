"""A synthetic run with every file a report needs; the numbers are drawn, not measured."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from fermo.training.report import schema
from fermo.training.run_folder import RunFolder

POLICIES = (("lipschitz_bc", "Lipschitz BC"), ("mlp_bc", "Unconstrained BC"))
PERTURBATIONS = (
    ("cube_mass", "Cube mass", "kg", "The cube is heavier than in training.", (0.02, 0.04, 0.08, 0.12, 0.2), False),
    ("friction", "Friction", "1", "Jaws and cube are more slippery.", (0.0, 0.25, 0.5, 0.75), False),
    ("observation_noise", "Observation noise", "rad", "White noise on every observed angle.",
     (0.0, 0.01, 0.02, 0.04, 0.08), True),
    ("observation_delay", "Observation delay", "s", "Observations arrive late.", (0.0, 0.04, 0.08, 0.12, 0.16), False),
    ("gradient_attack", "Gradient attack", "1", "The worst observation in a box, along the policy’s own gradient.",
     (0.0, 0.02, 0.05, 0.1), True),
    ("push", "Pushes", "N", "The gripper is pushed sideways for 0.1 s, once a second.", (0.0, 1.0, 2.0, 4.0), False),
)  # fmt: skip


def make_run(path: Path, seed: int = 0) -> RunFolder:
    rng = np.random.default_rng(seed)
    run = RunFolder.create(path, {"task": "fermo/SO101-PickCube-v0", "num_envs": 256}, seeds={"data": 0, "training": 1})
    drawn = (_robustness(rng), _deployment(rng), _training(rng))
    for record in (_headline(), _certificate(), _paired(), _differences(), *drawn):
        schema.save(run.path, record)
    for name in (schema.SIM_VIDEO, schema.TWIN_VIDEO):
        write_video(run.path / name)
    return run


def write_video(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for shade in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 50 * shade, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _headline() -> schema.Headline:
    scores = ((*POLICIES[0], 467), (*POLICIES[1], 478), ("expert", "Scripted expert", 505))
    return schema.Headline(
        task="fermo/SO101-PickCube-v0",
        goal="An episode succeeds when the cube is more than 5 cm above its start at the end.",
        starts="512 cube poses, drawn as in training from seeds that training never used.",
        scores=tuple(schema.Score(policy=p, label=label, successes=s, trials=512) for p, label, s in scores),
    )


def _robustness(rng: np.random.Generator) -> schema.Robustness:
    curves = []
    for kind, title, unit, sentence, severities, companions in PERTURBATIONS:
        series = []
        for random in (False, True) if companions else (False,):
            for (policy, label), drop in zip(POLICIES, (0.35, 0.65), strict=True):
                share = (np.array(severities) - severities[0]) / (severities[-1] - severities[0])
                rate = 0.93 - (0.3 if random else 1.0) * drop * share**1.5
                series.append(schema.Series(policy=policy, label=label, random=random, trials=(64,) * len(severities),
                                            successes=tuple(rng.binomial(64, rate).tolist())))  # fmt: skip
        curves.append(schema.Curve(kind=kind, title=title, unit=unit, sentence=sentence, severities=severities,
                                   series=tuple(series)))  # fmt: skip
    return schema.Robustness(curves=tuple(curves))


def _certificate() -> schema.Certificate:
    gains = (("joint_position", 2.1, "(rad)/(rad)"), ("cube_position", 14.7, "(rad)/(m)"))
    return schema.Certificate(
        claim="||action(a) - action(b)|| <= lipschitz * ||a - b|| in normalised units", lipschitz=4.98,
        norm="l2 to l2", method="ECLipsE-Fast", domain="global", by_construction=True, gamma_requested=5.0,
        steepest_slope_found=4.1, conditions=("says nothing of the closed loop",),
        sensitivity=tuple(schema.Sensitivity(command="joint_target", observation=name, gain=gain, unit=unit)
                          for name, gain, unit in gains),
    )  # fmt: skip


def _paired() -> schema.PairedSweep:
    table = ((2.0, 391, 10, 87, 24), (5.0, 455, 12, 23, 22), (10.0, 460, 14, 18, 20))
    rows = (
        schema.PairedRow(gamma=gamma, both=both, only_constrained=first, only_unconstrained=second, neither=neither)
        for gamma, both, first, second, neither in table
    )
    return schema.PairedSweep(chosen=5.0, rows=tuple(rows))


def _deployment(rng: np.random.Generator) -> schema.Deployment:
    lateness = rng.gamma(2.0, 2e-4, size=1500)
    return schema.Deployment(
        robot="the SO-101 twin through the Feetech SDK", successes=9, episodes=10, period_s=0.04, misses=2,
        stale_reads=5, periods_s=tuple((0.04 + np.diff(lateness)).tolist()), lateness_s=tuple(lateness.tolist()),
    )  # fmt: skip


def _differences() -> schema.Differences:
    rows = ("the servos run firmware of their own at 1 kHz", "angles come in 4096 counts a turn",
            "each gear has 0.5 degrees of play", "goals arrive over a 1 Mbit/s bus")  # fmt: skip
    return schema.Differences(rows=rows)


def _training(rng: np.random.Generator) -> schema.Training:
    steps = np.arange(0, 8001, 100)
    charts = []
    for title, sentence in (("Loss", "Mean squared error on a training batch."),
                            ("Validation loss", "The same on episodes that training never saw.")):  # fmt: skip
        lines = []
        for (policy, label), floor in zip(POLICIES, (0.05, 0.02), strict=True):
            values = floor + 0.6 * np.exp(-steps / 900) * rng.uniform(0.9, 1.1, len(steps))
            lines.append(schema.TrainingLine(policy=policy, label=label, steps=tuple(steps.tolist()),
                                             values=tuple(values.tolist())))  # fmt: skip
        charts.append(schema.TrainingChart(title=title, unit="1", sentence=sentence, lines=tuple(lines)))
    return schema.Training(charts=tuple(charts))
