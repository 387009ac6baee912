"""Bad input to the two commands is one line before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from fermo.cli import main

MISTAKES = {
    "bench-speed": "name at least one task",
    "bench-speed Hoppr": "did you mean 'Hopper-v5'?",
    "bench-speed Hopper --num-envs 8 0": "num_envs must be at least 1, got 8 0",
    "bench-speed Hopper --threads 100000": "threads must be from 1 to the",
    "bench-speed Hopper --rounds 0": "rounds and seconds must be positive",
    "bench-speed Hopper --contenders rwa": "did you mean 'raw'?",
    "bench-speed Hopper --contenders raw-warp": "raw-warp is compared with --backend warp, not cpu",
    "bench-speed Hopper --device cuda": "the cpu back end has no device cuda",
    "bench-speed Hopper --backend warp --device cdua": "unknown device 'cdua'",
    "bench-speed Hopper --peer-python no-such-python": "no-such-python is no Python that runs",
    "profile": "required",
    "profile Hoppr": "did you mean 'Hopper-v5'?",
    "profile Hopper --num-envs 0": "num_envs and steps start at 1",
    "profile Hopper --perturb frition=1": "did you mean 'friction'?",
    "profile Hopper --perturb friction": "give NAME=SEVERITY, for example friction=1",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_line_with_advice(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(command.split())
    told = capsys.readouterr()
    assert end.value.code == 2
    assert told.out == ""
    assert told.err.startswith("fermo: error: ")
    assert told.err.count("\n") == 1
    assert MISTAKES[command] in told.err
    assert list(tmp_path.iterdir()) == []
