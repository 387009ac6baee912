import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from fermo.errors import FermoError
from fermo.training.loops.bc import BcConfig, TrainingInterrupted, train_bc
from fermo.training.loops.observation_noise import ObservationNoise
from fermo.training.loops.state import FILE_NAME, load_state
from tests.policies.plants import SPEC, demonstrations, fitted_policy

CONFIG = BcConfig(steps=24, batch_size=96, lr=3e-3, warmup_steps=4, ema_decay=0.9, weight_decay=0.01, grad_clip=1.0,
                  log_every=5, checkpoint_every=7, seed=3)  # fmt: skip
FAMILIES = ("mlp_bc", "lipschitz_bc", "beso", "goal_bc")


def train(family: str, *, policy=None, config=CONFIG, **options):
    observations, actions = demonstrations()
    policy = policy or fitted_policy(family)
    weights = torch.linspace(0.5, 1.5, len(observations))
    noise = ObservationNoise(SPEC, {"cube_position": 0.005})
    return policy, train_bc(policy, observations, actions, config=config, weights=weights, augment=noise, **options)


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def stop_at(step: int):
    """Presses Ctrl-C in the middle of the training."""
    return lambda done, metrics: signal.raise_signal(signal.SIGINT) if done == step else None


@pytest.mark.parametrize("family", FAMILIES)
def test_resumed_training_repeats_the_uninterrupted_one_bit_by_bit(family: str, tmp_path: Path):
    whole, _ = train(family)
    with pytest.raises(TrainingInterrupted, match=r"step 10 of 24; state saved in") as caught:
        train(family, folder=tmp_path, on_step=stop_at(10))
    assert caught.value.step == 10
    resumed, result = train(family, folder=tmp_path, resume=True)
    assert (result.step, result.steps_taken) == (24, 14)
    assert same_weights(whole, resumed)


def test_same_seed_same_weights_and_another_seed_others():
    first, second = train("mlp_bc")[0], train("mlp_bc")[0]
    other = train("mlp_bc", config=BcConfig(steps=24, batch_size=96, seed=4))[0]
    assert same_weights(first, second) and not same_weights(first, other)


def test_training_neither_reads_nor_moves_the_global_random_state():
    torch.manual_seed(1)
    first, state = train("mlp_bc")[0], torch.get_rng_state()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = train("mlp_bc")[0]
    assert same_weights(first, second)
    assert torch.equal(before, torch.get_rng_state()) and not torch.equal(before, state)


def test_killed_training_resumes_from_its_last_saved_state(tmp_path: Path):
    script = textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from tests.training.test_bc import train
        def slow(step, metrics):
            print(step, flush=True)
            time.sleep(0.02 if step < 17 else 60)
        train("lipschitz_bc", folder={str(tmp_path)!r}, on_step=slow)
    """)
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          env=environment) as child:  # fmt: skip
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == "17":
                break
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert load_state(tmp_path).header["step"] == 14
    resumed, result = train("lipschitz_bc", folder=tmp_path, resume=True)
    assert result.steps_taken == 10
    assert same_weights(resumed, train("lipschitz_bc")[0])


def test_second_interrupt_stops_at_once_and_the_old_handler_returns():
    def press_twice(step, metrics):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train("mlp_bc", on_step=press_twice)
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupt_without_a_folder_says_that_nothing_was_saved():
    with pytest.raises(TrainingInterrupted, match="nothing saved"):
        train("mlp_bc", on_step=stop_at(2))


def test_resuming_another_training_is_refused(tmp_path: Path):
    train("mlp_bc", folder=tmp_path)
    with pytest.raises(FermoError, match="with other lr"):
        train("mlp_bc", folder=tmp_path, resume=True, config=BcConfig(**{**vars(CONFIG), "lr": 1e-4}))
    with pytest.raises(FermoError, match="with other family"):
        train("lipschitz_bc", folder=tmp_path, resume=True)
    with pytest.raises(FermoError, match="with other policy"):
        train("mlp_bc", policy=fitted_policy("mlp_bc", hidden=(16,)), folder=tmp_path, resume=True)
    with pytest.raises(FermoError, match="with other data"):
        train_bc(fitted_policy("mlp_bc"), *demonstrations(seed=1), config=CONFIG, folder=tmp_path, resume=True)


def test_missing_or_damaged_state_is_named(tmp_path: Path):
    with pytest.raises(FermoError, match="nothing to resume"):
        train("mlp_bc", folder=tmp_path, resume=True)
    train("mlp_bc", folder=tmp_path)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(FermoError, match="is damaged"):
        train("mlp_bc", folder=tmp_path, resume=True)


def test_folder_gets_metrics_and_one_state_file(tmp_path: Path):
    train("mlp_bc", folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {FILE_NAME, "tensorboard"}
    assert any((tmp_path / "tensorboard").iterdir())


def test_samples_of_weight_zero_do_not_matter():
    observations, actions = demonstrations()
    spoiled = torch.cat((actions[:256], actions[256:] + 50.0))
    weights = torch.cat((torch.ones(256), torch.zeros(256)))
    policy = fitted_policy("mlp_bc")
    batch = {"observation": observations, "weight": weights}
    loss = policy({**batch, "action": actions[:, None]})[0]
    assert torch.equal(loss, policy({**batch, "action": spoiled[:, None]})[0])
    plain = policy({"observation": observations[:256], "action": actions[:256, None]})[0]
    assert torch.allclose(loss, plain, rtol=1e-5)


def test_learning_rate_warms_up_then_follows_the_cosine():
    config = BcConfig(steps=110, warmup_steps=10, lr=1.0, final_lr_fraction=0.1)
    rates = [config.lr_at(step) for step in range(110)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.55) and rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_average_after_training_differs_from_the_last_weights_and_lies_near(tmp_path: Path):
    policy, _ = train("mlp_bc", folder=tmp_path)
    last = load_state(tmp_path).group("policy")
    gaps = [(value - last[name]).abs().max() for name, value in policy.state_dict().items() if "network" in name]
    assert 0 < max(gaps) < 0.1


def test_the_rate_may_fall_by_steps():
    config = BcConfig(steps=40_000, lr=1e-4, warmup_steps=0, lr_decay=0.99)
    assert config.lr_at(0) == config.lr_at(99) == 1e-4
    assert config.lr_at(100) == pytest.approx(0.99e-4)
    assert config.lr_at(40_000) / config.lr == pytest.approx(0.018, abs=5e-4)  # of BESO's released training
    with pytest.raises(FermoError, match="lr_decay must lie in"):
        BcConfig(lr_decay=1.5)


def test_noise_has_the_asked_spread_on_its_signal_alone():
    noise = ObservationNoise(SPEC, {"cube_position": 0.01})
    change = noise(torch.zeros(20_000, 17), torch.Generator().manual_seed(0))
    assert change[:, 12:15].std() == pytest.approx(0.01, rel=0.02)
    assert not change[:, :12].any() and not change[:, 15:].any()
    with pytest.raises(FermoError, match="no observation 'cube'"):
        ObservationNoise(SPEC, {"cube": 0.1})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda o, a: (o[:0], a[:0]), "no samples"),
        (lambda o, a: (o, a[:-1]), "counts must agree"),
        (lambda o, a: (o, a[:, :5]), "learns 1 x 6 numbers"),
        (lambda o, a: (o * torch.nan, a), "remove NaN"),
        (lambda o, a: (o, a + torch.inf), "sample 0 of 'joint_target'"),
    ],
)
def test_unusable_data_are_refused(spoil, message: str):
    with pytest.raises(FermoError, match=message):
        train_bc(fitted_policy("mlp_bc"), *spoil(*demonstrations()), config=CONFIG)


@pytest.mark.parametrize("settings", [{"steps": 0}, {"lr": -1.0}, {"ema_decay": 1.0}, {"warmup_steps": -1}])
def test_bad_settings_are_refused(settings: dict):
    with pytest.raises(FermoError, match=next(iter(settings))):
        BcConfig(**settings)


def test_divergence_is_an_error():
    observations, actions = demonstrations()
    config = BcConfig(steps=60, batch_size=64, lr=1e30, warmup_steps=0, log_every=1)
    with pytest.raises(FermoError, match="diverged at step"):
        train_bc(fitted_policy("mlp_bc"), observations, actions, config=config)
