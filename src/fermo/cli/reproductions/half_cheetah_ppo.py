"""``half-cheetah-ppo``: fermo's batch against Stable-Baselines3 on Gymnasium: PPO, equal samples and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fermo.errors import FermoError
from fermo.training.reproduce.registry import Budget, Cell, Number, Reproduction, Results, Row, Workspace, register

_TASK, _GYMNASIUM_ID = "fermo/HalfCheetah-v5", "HalfCheetah-v5"
_SEEDS = {Budget.SMOKE: (0,), Budget.SMALL: (0, 1, 2), Budget.PAPER: (0, 1, 2, 3, 4)}
_STEPS = {Budget.SMOKE: 16_384, Budget.SMALL: 1_000_000, Budget.PAPER: 1_000_000}
_EPISODES = {Budget.SMOKE: 4, Budget.SMALL: 20, Budget.PAPER: 100}
_CONTENDERS = ("fermo", "sb3")


def _cells(budget: Budget) -> Sequence[Cell]:
    episodes = _EPISODES[budget]
    works = {"fermo": _fermo(episodes), "sb3": _sb3(episodes)}
    cells = [
        Cell(name=f"{name}/seed={seed}", seed=seed, steps=_STEPS[budget], work=works[name])
        for name in _CONTENDERS for seed in _SEEDS[budget]
    ]  # fmt: skip
    return [*cells, Cell(name="all", seed=0, steps=0, work=_pooled)]


def _fermo(episodes: int) -> Callable[[Workspace], Mapping[str, Number]]:
    def work(work: Workspace) -> Mapping[str, Number]:
        """The task's own recipe, on one thread."""
        import torch

        from fermo.envs.registry import make_task
        from fermo.training.bench.evaluate import TEST_SEED, evaluate
        from fermo.training.learn import learn
        from fermo.training.recipes import learner_recipe, worlds_recipe
        from fermo.training.stopwatch import stopwatch

        worlds = worlds_recipe(_TASK, "ppo")
        config = learner_recipe(_TASK, "ppo")
        config = learner_recipe(_TASK, "ppo", iterations=work.steps // (worlds * config.rollout_steps))
        with stopwatch() as elapsed:
            policy = learn(work.folder / "train", task=_TASK, learner="ppo", config=config, num_envs=worlds,
                           threads=1, seed=work.seed)  # fmt: skip
        task = make_task(_TASK)
        outcome = evaluate(task, policy, episodes=episodes, seed=TEST_SEED)
        generator = torch.Generator().manual_seed(work.seed)
        noise = evaluate(task, lambda obs: 2 * torch.rand(len(obs), 6, generator=generator) - 1, episodes=episodes,
                         seed=TEST_SEED)  # fmt: skip
        return _numbers(outcome.returns.numpy(), elapsed) | {"random": Number(value=float(noise.returns.mean()))}

    return work


def _settings() -> dict[str, Any]:
    """Those of fermo's recipe in Stable-Baselines3's words; its one environment collects what fermo's many do."""
    import math

    from torch import nn

    from fermo.training.recipes import learner_recipe, worlds_recipe

    ours: Any = learner_recipe(_TASK, "ppo")
    round_steps = ours.rollout_steps * worlds_recipe(_TASK, "ppo")
    network = {"net_arch": list(ours.hidden), "activation_fn": nn.ReLU, "log_std_init": math.log(ours.init_std)}
    return {
        "n_steps": round_steps, "batch_size": round_steps // ours.minibatches, "n_epochs": ours.epochs,
        "learning_rate": ours.lr, "gamma": ours.gamma, "gae_lambda": ours.gae_lambda, "clip_range": ours.clip,
        "ent_coef": ours.entropy, "vf_coef": ours.value, "max_grad_norm": ours.max_grad_norm, "policy_kwargs": network,
    }  # fmt: skip


def _sb3(episodes: int) -> Callable[[Workspace], Mapping[str, Number]]:
    def work(work: Workspace) -> Mapping[str, Number]:
        """Stable-Baselines3 on Gymnasium: one environment, observations and rewards normalised."""
        import gymnasium
        import numpy as np
        from stable_baselines3 import PPO
        from stable_baselines3.common.evaluation import evaluate_policy
        from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

        from fermo.training.bench.evaluate import TEST_SEED
        from fermo.training.learn import require
        from fermo.training.stopwatch import stopwatch

        require("stable_baselines3", "stable-baselines3")
        with stopwatch() as elapsed:
            settings = _settings()
            env: Any = VecNormalize(DummyVecEnv([lambda: gymnasium.make(_GYMNASIUM_ID)]), gamma=settings["gamma"])
            learner = PPO("MlpPolicy", env, seed=work.seed, device="cpu", **settings)
            learner.learn(work.steps)
        env.training, env.norm_reward = False, False
        env.seed(TEST_SEED)
        # Episodes end by the clock alone, so the sum that is not normalised is what is asked for.
        returns, _ = evaluate_policy(learner, env, n_eval_episodes=episodes, return_episode_rewards=True, warn=False)
        return _numbers(np.array(returns), elapsed)

    return work


def _numbers(returns: Any, elapsed: Any) -> dict[str, Number]:
    """Mean return with its bootstrap interval over the starts, and what the training cost."""
    from fermo.training.statistics import bootstrap

    value, low, high = (float(number) for number in bootstrap(returns, seed=0))
    return {"return": Number(value=value, low=low, high=high, trials=len(returns)),
            "wall": Number(value=elapsed.wall_s, unit="s"), "cpu": Number(value=elapsed.cpu_s, unit="s")}  # fmt: skip


def _pooled(work: Workspace) -> Mapping[str, Number]:
    """Means over the seeds with bootstrap intervals over them, and ratios of what was spent."""
    import numpy as np

    from fermo.training.statistics import bootstrap

    def of(name: str, number: str) -> Any:
        cells = [numbers for cell, numbers in work.results.items() if cell.startswith(f"{name}/")]
        return np.array([numbers[number].value for numbers in cells])

    pooled = {}
    for name in _CONTENDERS:
        value, low, high = (float(number) for number in bootstrap(of(name, "return"), seed=0))
        pooled[f"{name} return"] = Number(value=value, low=low, high=high, trials=len(of(name, "return")))
    for cost in ("wall", "cpu"):
        pooled[f"{cost} ratio"] = Number(value=float(of("fermo", cost).sum() / of("sb3", cost).sum()))
    return pooled


def _check(results: Results) -> None:
    """Both are worth more than random actions."""
    random = max(numbers["random"].value for numbers in results.values() if "random" in numbers)
    for cell, numbers in results.items():
        if "return" in numbers and numbers["return"].value <= random:
            raise FermoError(f"{cell} does no better than random actions: {numbers['return'].value:.0f}")


HALF_CHEETAH_PPO = register(
    Reproduction(
        name="half-cheetah-ppo",
        title="HalfCheetah by PPO: fermo's batch against Stable-Baselines3 on Gymnasium, equal samples",
        cells=_cells,
        rows=(
            Row(cell="all", number="fermo return", label="fermo, mean return over seeds"),
            Row(cell="all", number="sb3 return", label="Stable-Baselines3 on Gymnasium, the same settings"),
            Row(cell="all", number="wall ratio", label="wall time of training, fermo over Stable-Baselines3"),
            Row(cell="all", number="cpu ratio", label="CPU time of training, fermo over Stable-Baselines3"),
        ),
        check=_check,
    )
)
