"""Compile for a GPU, on a machine that need not have one, every kernel that the tasks' steps launch.

Each task's Warp back end is built and stepped with the launches themselves left out: they only say which modules a CUDA
device would load, with which block size. What is compiled stays in the cache, named by a hash of the kernels, so that a
second run compiles what has changed, and a GPU machine that is given the cache starts at once.

Usage: compile_kernels.py [--arch 90] [--cache FOLDER] [--jobs 2] [TASK ...]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock


class Done(NamedTuple):
    """What became of one task."""

    task: str
    modules: int
    compiled: int
    failures: tuple[str, ...]
    seconds: float
    refusal: str = ""


def main() -> None:
    """Compile, print a line a task, and exit with 1 if a kernel does not compile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", help="all when none is named")
    parser.add_argument("--arch", type=int, default=90, help="compute capability, 90 for H100 and H200")
    parser.add_argument("--cache", type=Path, help="kernel cache; Warp's own when omitted")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    from fermo.envs.registry import TASKS, task_id

    tasks = [task_id(name) for name in options.tasks] or list(TASKS)
    started, failed = time.perf_counter(), False
    with concurrent.futures.ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        work = [pool.submit(compile_task, name, options.arch, options.cache) for name in tasks]
        for future in concurrent.futures.as_completed(work):
            done = future.result()
            failed |= bool(done.failures)
            what = done.refusal or f"{done.modules} modules, {done.compiled} compiled, {done.seconds:.0f} s"
            print(f"{done.task}: {what}", flush=True)
            for failure in done.failures:
                print(f"  does not compile: {failure}", file=sys.stderr)
    print(f"{len(tasks)} tasks for sm_{options.arch} in {time.perf_counter() - started:.0f} s")
    sys.exit(int(failed))


def compile_task(name: str, arch: int, cache: Path | None) -> Done:
    """Compile what a step, a reset and a change of parameters of one task launch."""
    import warp as wp

    from fermo.envs.core.backend import BackendError

    warnings.filterwarnings("ignore", message=r"\s*CUDA version < 12.4 detected")  # none is
    wp.config.log_level = wp.LOG_ERROR
    wp.config.kernel_cache_dir = str(cache.resolve()) if cache else None
    wp.init()
    started = time.perf_counter()
    try:
        modules = launched_modules(name)
    except BackendError as error:  # a task that Warp does not simulate, and says so
        return Done(name, 0, 0, (), 0.0, str(error))
    compiled, failures = compile_modules(modules, arch)
    return Done(name, len(modules), compiled, failures, time.perf_counter() - started)


def compile_modules(modules: list[tuple[Any, int]], arch: int) -> tuple[int, tuple[str, ...]]:
    """How many were not yet in the cache, and a line for each that does not compile."""
    import warp as wp

    compiled, failures = 0, []
    for module, block_dim in modules:
        module.get_module_hash(block_dim)  # settles the options of this block size
        folder = Path(wp.config.kernel_cache_dir) / module.get_module_identifier(block_dim)
        options = module.resolved_options[block_dim]
        try:
            compiled += module._compile(None, str(folder), output_arch=arch, use_ptx=False, options=options)
        except Exception as error:  # whatever the compiler raises, the other kernels are tried too
            failures.append(f"{module.name}: {error}")
    return compiled, tuple(failures)


def launched_modules(name: str) -> list[tuple[Any, int]]:
    """Warp modules and their block sizes, as a CUDA device would load them."""
    import torch

    from fermo.envs.core.backend import make_backend
    from fermo.envs.core.warp_random import random_words
    from fermo.envs.registry import make_task

    task = make_task(name)
    worlds = torch.arange(2)
    with recording() as modules:
        random_words(0, 0, worlds, worlds, worlds, 1)
        backend = make_backend("warp", task.engine_model("warp"), 2, device="cpu", refresh=task.refresh)
        everyone = torch.ones(2, dtype=torch.bool)
        backend.reset(everyone, backend.read("qpos"), backend.read("qvel"))
        backend.read("cfrc_ext")  # all there is to compute
        backend.step(torch.zeros(2, task.model.nu), task.substeps)
        backend.forward(everyone)
        for field in ("body_mass", "geom_size"):
            backend.set_param(field, backend.get_param(field))
        backend.step(torch.zeros(2, task.model.nu), task.substeps)
    return modules


@contextlib.contextmanager
def recording() -> Iterator[list[tuple[Any, int]]]:
    """Launches only note their module, and choices that depend on the device are those of a CUDA device."""
    import warp as wp
    from warp._src import context

    found: dict[tuple[int, int], tuple[Any, int]] = {}

    def load(module: Any, device: Any, block_dim: int | None = None, *_: Any) -> None:
        size = block_dim if block_dim is not None else module.options["block_dim"]
        found[id(module), size] = (module, size)

    class Cuda:
        is_cuda, is_cpu, sm_count, arch, alias = True, False, 132, 90, "cuda:0"

    modules: list[tuple[Any, int]] = []
    real_device = wp.get_device
    stand_ins = {
        (context.Module, "load"): load,
        (context, "_resolve_launch_block_dim"): lambda _, size: size if size and size > 0 else 256,
        (wp, "get_device"): lambda *named: real_device(*named) if named else Cuda(),
        (wp, "get_suggested_block_size"): lambda *_: (256, Cuda.sm_count),
        (wp, "capture_while"): lambda _, while_body, **arguments: while_body(**arguments),
        (wp, "capture_if"): lambda _, on_true, **arguments: on_true(**arguments),
    }
    with contextlib.ExitStack() as stack:
        for (owner, attribute), stand_in in stand_ins.items():
            stack.enter_context(mock.patch.object(owner, attribute, stand_in))
        yield modules
    modules.extend(found.values())


if __name__ == "__main__":
    main()
