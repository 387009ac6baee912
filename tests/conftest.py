"""What every test needs: few threads, and no network."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and numpy start their pools: tests share few cores
os.environ.setdefault("FERMO_CONFIG", os.path.join(os.environ.get("TMPDIR", "/tmp"), "fermo-test-config"))
