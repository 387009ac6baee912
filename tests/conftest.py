"""What every test needs: few threads, and settings of its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Before torch and numpy start their pools, and inherited by child processes: tests share few cores, and on tensors this
# small threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FERMO_CONFIG", str(Path(tempfile.gettempdir()) / "fermo-test-config"))

import torch

torch.set_num_threads(1)  # whatever OMP_NUM_THREADS was before
