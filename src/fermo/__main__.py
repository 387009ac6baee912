"""Run the command line as ``python -m fermo``."""

from fermo.cli import main

if __name__ == "__main__":
    main()
