"""How fast a linear loop forgets in the long run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spectral_radius(A: NDArray[np.float64]) -> float:
    """Largest modulus of an eigenvalue of ``(n, n)``; below 1 where ``x+ = A x`` is stable."""
    return float(np.abs(np.linalg.eigvals(A)).max())
