"""Kernels compile for a GPU where there is none."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import warp as wp

SCRIPT = Path(__file__).parents[2] / ".ci" / "compile_kernels.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compile_kernels", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@wp.kernel(module="unique", enable_backward=False)
def twice(x: wp.array[float]):
    i = wp.tid()
    x[i] = 2.0 * x[i]  # pyright: ignore[reportIndexIssue]


@wp.func_native(snippet="return no_such_function_anywhere(x);")
def nonsense(x: float) -> float: ...


@wp.kernel(module="unique", enable_backward=False)
def broken(x: wp.array[float]):
    i = wp.tid()
    x[i] = nonsense(x[i])  # pyright: ignore[reportIndexIssue]


def test_a_kernel_that_cannot_compile_is_named_and_the_others_are_compiled(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wp.config, "kernel_cache_dir", str(tmp_path))
    values = wp.array([1.0, 2.0], dtype=float, device="cpu")
    with script.recording() as modules:
        wp.launch(broken, dim=2, inputs=[values], device="cpu")
        wp.launch(twice, dim=2, inputs=[values], device="cpu", block_dim=64)
    assert values.numpy().tolist() == [1.0, 2.0]  # noted, not launched
    assert [size for _, size in modules] == [256, 64]
    compiled, failures = script.compile_modules(modules, 90)
    assert compiled == 1 and len(failures) == 1 and "broken" in failures[0]
    assert len(list(tmp_path.rglob("*.cubin"))) == 1
    assert script.compile_modules(modules[1:], 90) == (0, ())  # cached


@pytest.mark.slow
def test_a_whole_task_compiles_and_the_second_time_from_the_cache(tmp_path: Path) -> None:
    def run() -> str:
        command = [sys.executable, str(SCRIPT), "InvertedPendulum", "--cache", str(tmp_path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    first, second = run(), run()
    count = int(first.split(" modules, ")[0].split()[-1])
    assert count > 20 and f"{count} modules, {count} compiled" in first
    assert f"{count} modules, 0 compiled" in second
