"""Stable-Baselines3's vector environments over Gymnasium's tasks."""

from __future__ import annotations

from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from fermo.benchmarks.contenders.gymnasium_vector import PythonVector


class _Sb3(PythonVector):
    def begin(self, env: VecEnv) -> None:
        """See `PythonVector.begin`."""
        env.seed(self.case.seed)
        env.reset()


class Sb3Dummy(_Sb3):
    """`DummyVecEnv`: a Python loop."""

    kind, process_a_world = DummyVecEnv, False


class Sb3Subproc(_Sb3):
    """`SubprocVecEnv`: a process a world."""

    kind, process_a_world = SubprocVecEnv, True
