"""fermo: learn a policy in batched MuJoCo, know how robust it is, run the same file on a real robot.

Importing this package is cheap: torch, mujoco and the rest load with the module that needs them.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fermo")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
