"""MJX with mujoco_warp under it: the same physics, called through JAX."""

from __future__ import annotations

from typing import Any

import jax  # pyright: ignore[reportMissingImports]  it lives in an environment of its own
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
import mujoco
from mujoco import mjx  # pyright: ignore[reportMissingImports]

from fermo.benchmarks.contender import Case, Contender, NotForThisCaseError
from fermo.benchmarks.trace import Trace


class MjxWarp(Contender):
    """A jitted scan over the substeps of a control step, vectorised over worlds.

    It goes through the recorded starts and controls; since single worlds cannot be written in place, it does so without
    the restarts.
    """

    def prepare(self) -> None:
        """See `Contender.prepare`."""
        self._model = load_model(self.case)
        self._life = Trace.load(self.case.trace_file).over(self.case.num_envs)
        self._controls = [jnp.asarray(each, dtype=jnp.float32) for each in self._life.ctrl]

    def make(self) -> int:
        """See `Contender.make`."""
        case, worlds, nq, nv = self.case, self.case.num_envs, self._model.nq, self._model.nv
        model = mjx.put_model(self._model, impl="warp")
        one = mjx.make_data(self._model, impl="warp", naconmax=case.nconmax * worlds, njmax=case.njmax)
        start = jnp.asarray(self._life.start, dtype=jnp.float32)
        self._start = start[:, 1 : 1 + nq], start[:, 1 + nq : 1 + nq + nv]
        self._data = jax.vmap(lambda qpos, qvel: one.replace(qpos=qpos, qvel=qvel))(*self._start)

        def control_step(data: Any, ctrl: Any) -> Any:
            data = data.replace(ctrl=ctrl)
            return jax.lax.scan(lambda now, _: (mjx.step(model, now), None), data, length=case.substeps)[0]

        self._advance = jax.jit(jax.vmap(control_step))
        self._step = 0
        self.note = f"{case.substeps} physics steps a call, no observation, no reward, no restarts between traces"
        return worlds

    def step(self) -> None:
        """See `Contender.step`."""
        at = self._step % len(self._controls)
        if at == 0:
            self._data = self._data.replace(qpos=self._start[0], qvel=self._start[1])
        self._data = self._advance(self._data, self._controls[at])
        self._step += 1

    def finish(self) -> None:
        """See `Contender.finish`."""
        jax.block_until_ready(self._data.qpos)


def load_model(case: Case) -> mujoco.MjModel:
    """The case's MJCF with a solver that mujoco_warp has."""
    if not case.model_file:
        raise NotForThisCaseError(f"{case.task} is no single MJCF file that a peer could load")
    model = mujoco.MjModel.from_xml_path(case.model_file)
    if model.opt.solver == mujoco.mjtSolver.mjSOL_PGS:
        model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    return model
