"""What every test needs: few threads, and settings of its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and numpy start their pools: tests share few cores
os.environ.setdefault("FERMO_CONFIG", str(Path(tempfile.gettempdir()) / "fermo-test-config"))
