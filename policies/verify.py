"""Which proof a checkpoint's certificate stands on; importing it does not load torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fermo.policies.checkpoint_header import read_header


def verify_checkpoint(folder: str | Path) -> dict[str, Any]:
    """Compute a checkpoint's certificate anew from its files, by its family's proof, and return it.

    Raises:
        FermoError: A file is missing, damaged or changed, or the certificate states what the files do not have.
    """
    if read_header(folder)["family"] == "lipschitz_extension":
        from fermo.policies.lipschitz_extension.certificate import verify_certificate
    else:
        from fermo.policies.certificates.certificate import verify_certificate
    return verify_certificate(folder)
