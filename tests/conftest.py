"""What every test needs: few threads, and settings of its own."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from pathlib import Path

# Before torch and numpy start their pools, and inherited by child processes: tests share few cores, and on tensors this
# small threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FERMO_CONFIG", str(Path(tempfile.gettempdir()) / "fermo-test-config"))

import pytest
import torch

torch.set_num_threads(1)  # whatever OMP_NUM_THREADS was before


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing under test may reach for the network once assets are cached."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            assert isinstance(address, tuple)
            host = "127.0.0.1" if address[0] == "localhost" else address[0]
            assert ipaddress.ip_address(host).is_loopback, f"a test tried to reach {address}"
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
