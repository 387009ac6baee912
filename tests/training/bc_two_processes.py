"""What each of two processes does in the test of cloning by several processes: train, then write what it ended with."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from fermo.training.loops.processes import joined
from tests.training.test_bc_processes import FAMILIES, train

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with joined(on_gpu=False) as processes:
        for family in FAMILIES:
            policy = train(family, processes=processes, folder=folder / family)
            save_file(policy.state_dict(), folder / f"{family}{processes.rank}.safetensors")
