"""A distilled student stands for the teacher's whole trajectory, and its training resumes."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fermo.cli import main
from fermo.errors import FermoError
from fermo.policies.beso.config import BesoConfig, DdpmConfig, DiffusionConfig, GoalConfig
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.checkpoint import load_checkpoint
from fermo.training.bench.sampled_actions import energy_distance
from fermo.training.loops.bc import TrainingInterrupted, train_bc
from fermo.training.loops.consistency import ConsistencyStudent, student_config
from fermo.training.loops.distill_config import DistillConfig
from tests.policies.beso_policies import GOAL, STD, ExactDenoiser, data, edm, goal_policy, observations, policy
from tests.policies.test_beso_consistency import DIFFUSION, ExactConsistency, exact_end


def exact_teacher() -> BesoPolicy:
    made = policy(context=1, diffusion=DIFFUSION)
    made.network = ExactDenoiser(edm(made).sigma_data)  # type: ignore[assignment]
    return made


class Scaled(nn.Module):
    """Answers times a factor that can be learned."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, nn.Parameter(torch.tensor(factor))

    def forward(self, *given: Tensor) -> Tensor:
        return self.factor * self.network(*given)


def student_of(teacher: BesoPolicy, levels: int = 40, factor: float = 1.0) -> ConsistencyStudent:
    """A student whose network is exact but for a factor."""
    weights = policy(context=1, diffusion=DIFFUSION)
    made = ConsistencyStudent(weights, DistillConfig(levels=levels))
    made._teacher = (teacher,)
    made.network = Scaled(ExactConsistency(made.consistency), factor)  # type: ignore[assignment]
    made.register_buffer("target_0", torch.tensor(factor))
    return made.eval()


def batch(samples: int = 4_000) -> dict[str, Tensor]:
    made, obs = exact_teacher(), observations(samples)
    noise = torch.randn(samples, 2, generator=torch.Generator().manual_seed(5))
    action = made.action_normalizer.inverse(made.observation_normalizer(obs)[:, :2] + STD * noise)
    return {"observation": obs, "action": action}


def loss_of(student: ConsistencyStudent) -> Tensor:
    torch.manual_seed(0)
    return student(batch())[0]


def test_the_teachers_step_follows_the_closed_form_of_its_ode():
    student = student_of(exact_teacher(), levels=80)
    obs = observations(7)[:, None]
    seen = student.observation_normalizer(obs), torch.ones(7, 1, dtype=torch.bool), None
    mean = seen[0][..., :2]
    for level in student.consistency.grid[1::13]:
        x, levels = mean + torch.randn(7, 1, 2) * (STD**2 + level**2).sqrt(), level.expand(7, 1)
        lower = student.consistency.following(levels)
        stepped = student._stepped(x, levels, lower, seen)
        torch.testing.assert_close(exact_end(stepped, lower[..., None], mean), exact_end(x, level, mean), atol=2e-3,
                                   rtol=0)  # fmt: skip


def test_the_loss_is_least_at_the_closed_form_of_normal_data():
    """``f = mean + (x - mean) sqrt((std^2 + e^2) / (std^2 + sigma^2))``: what Heun's steps leave over is all."""
    least = float(loss_of(student_of(exact_teacher())).detach())
    assert least < 1e-4
    for factor in (0.95, 1.05):
        wrong = student_of(exact_teacher(), factor=factor)
        wrong.get_buffer("target_0").fill_(1.0)
        assert float(loss_of(wrong).detach()) > 20 * least
    nearly = student_of(exact_teacher(), factor=1.01)
    nearly.get_buffer("target_0").fill_(1.0)
    loss_of(nearly).backward()
    assert float(nearly.network.factor.grad) > 0, "it descends towards the closed form"  # type: ignore[union-attr]


def train(folder: Path, *, resume: bool = False, stop_at: int | None = None, steps: int = 6) -> ConsistencyStudent:
    obs, actions = data()
    student = ConsistencyStudent(policy(), DistillConfig(steps=steps, batch_size=32, checkpoint_every=2, seed=1))
    loop = student._loop

    def stop(step: int, _: object) -> None:
        if step == stop_at:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt, TrainingInterrupted):
        train_bc(student, obs, actions, config=loop, episode_index=torch.arange(400) // 40, folder=folder,
                 resume=resume, on_step=stop)  # fmt: skip
    return student


def test_a_stopped_distillation_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path):
    whole = train(tmp_path / "whole")
    train(tmp_path / "parts", stop_at=5)  # its last saved state is that of step 4
    parts = train(tmp_path / "parts", resume=True)
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in whole.state_dict().items())
    start = ConsistencyStudent(policy(), DistillConfig())
    assert not torch.equal(whole.network.head.weight, start.network.head.weight)
    assert not torch.equal(whole.get_buffer("target_0"), start.get_buffer("target_0"))


def test_a_student_keeps_scalings_and_weights_and_learns_its_teachers_guidance():
    teacher = goal_policy(guidance=2.0)
    student = ConsistencyStudent(teacher, DistillConfig())
    made = student.finished()
    assert made.config.goal.guidance == 1.0 and made.config.diffusion.steps == 1
    for name, value in teacher.state_dict().items():
        assert torch.equal(made.state_dict()[name], value), name
    assert len(list(student.parameters())) == len(list(teacher.parameters()))
    made.set_goal(GOAL)
    assert made.select_action(observations()).shape == (5, 2)
    calls = []
    teacher.guided_answers = lambda *given: calls.append(given[-1]) or torch.zeros_like(given[0])  # type: ignore
    student.train()({"observation": torch.randn(8, 3, 3), "action": torch.randn(8, 3, 2), "goal": torch.ones(8, 1, 3)})
    assert calls == [2.0, 2.0], "Heun asks twice"


@pytest.mark.parametrize(("config", "problem"), [
    (BesoConfig(objective="flow"), "this policy has flow"),
    (BesoConfig(objective="ddpm", ddpm=DdpmConfig()), "this policy has ddpm"),
    (BesoConfig(goal=GoalConfig(kind="future", guidance=2.0, guidance_interval=(0.1, 1.0))), "guidance_interval"),
    (BesoConfig(stream=True, noise_levels="streaming", diffusion=DiffusionConfig(steps=1)), "leave stream"),
])  # fmt: skip
def test_what_cannot_be_distilled_is_told(config: BesoConfig, problem: str):
    with pytest.raises(FermoError, match=problem):
        student_config(config)


@pytest.mark.parametrize("wrong", [{"levels": 1}, {"huber": 0.0}, {"target_decay": 1.0}])
def test_settings_are_checked(wrong: dict):
    with pytest.raises(FermoError):
        replace(DistillConfig(), **wrong)


def test_energy_distance_is_that_of_the_closed_form_and_zero_for_the_same_distribution():
    """Of two normals apart by m: ``2 E|N(m, 2)| - 4 / sqrt(pi)``."""
    x, y = torch.randn(2, 3_000, 1, generator=torch.Generator().manual_seed(0))
    apart = torch.distributions.Normal(0.0, 1.0)
    m = torch.tensor(2.0)
    z = m / 2**0.5
    mean = 2**0.5 * (2 / torch.pi) ** 0.5 * torch.exp(-(z**2) / 2) + m * (1 - 2 * apart.cdf(-z))
    assert energy_distance(x, y) == pytest.approx(0.0, abs=0.01)
    assert energy_distance(x, y + m) == pytest.approx(float(2 * mean - 4 / torch.pi**0.5), rel=0.05)


def test_the_command_leaves_a_checkpoint_that_samples_in_one_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = tmp_path / "run"
    main(["train", "CartPole", "beso", "--policy.network.layers", "1", "--policy.network.width", "16", "--num-envs",
          "8", "--training.steps", "4", "--training.validation", "0", "--folder", str(run)])  # fmt: skip
    teacher = run / "train/checkpoint"
    command = ["distill", str(teacher), "--training.steps", "4", "--training.batch-size", "64"]
    main(command)
    student = run / "train/distilled/distill/checkpoint"
    made = load_checkpoint(student)
    assert isinstance(made, BesoPolicy) and made.config.objective == "consistency"
    assert made.objective.evaluations() == 1
    main([*command, "--resume"])
    assert str(student) in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["distill", str(student)])
    assert "this policy has consistency" in capsys.readouterr().err
    main(["eval", str(student), "--episodes", "2", "--json", str(tmp_path / "eval.json")])
