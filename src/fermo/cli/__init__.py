"""The ``fermo`` command."""


def main() -> None:
    """Entry point."""
    raise SystemExit("coming")
