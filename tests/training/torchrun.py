"""Two processes of one training on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys


def torchrun(*words: str) -> None:
    """Run a script or a module with its arguments, twice, as ``torchrun`` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1",
              "--master-port", str(port), *words]  # fmt: skip
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, check=False, timeout=220)
    assert done.returncode == 0, done.stderr
