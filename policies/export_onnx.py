"""A policy as one ONNX file that carries its signals, for a robot without torch."""

from __future__ import annotations

import copy
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

import fermo
from fermo.errors import FermoError
from fermo.policies.base import Policy

if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-6  # of the action's magnitude (at least 1); or what float32 costs torch itself, if that is more


def export_onnx(policy: Policy, path: str | Path, *, certificate: Mapping[str, Any] | None = None) -> Path:
    """Write ``obs (N, observation_size) -> action (N, H, command_size)``, float32, with any N, in SI units.

    The file's metadata hold ``fermo.plant`` (signals as JSON), ``fermo.family`` and ``fermo.version``. It is run once
    with onnxruntime and compared with torch before it takes its name.

    Args:
        policy: To be exported.
        path: Of the file.
        certificate: Of the policy's weights; goes into the metadata as ``fermo.certificate`` after every weight in the
            file was found bitwise equal to the policy's. What is proved holds for the map in exact arithmetic;
            onnxruntime adds up in another order than torch and may differ in the last bits of an action.

    Raises:
        FermoError: The family has no graph, the onnx extra is not installed, or the exported graph disagrees with the
            policy.
    """
    if (reason := policy.why_not_exportable()) is not None:
        raise FermoError(f"{policy.family} {reason}, and there is no ONNX graph of that: "
                         "export a network, for example of the family lipschitz_bc")  # fmt: skip
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it and says so less clearly
    except ImportError as error:
        raise FermoError(f"ONNX export needs {error.name}: pip install 'fermo[onnx]'") from error
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    deployed = copy.deepcopy(policy).cpu().fold().eval().requires_grad_(False)
    sample = _sample(deployed)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        staged = Path(folder) / path.name
        model = _trace(deployed, sample)
        metadata = {
            "fermo.plant": json.dumps(policy.spec.to_json()),
            "fermo.family": policy.family,
            "fermo.version": fermo.__version__,
        }
        if certificate is not None:
            _require_weights(model, deployed)
            metadata["fermo.certificate"] = json.dumps(certificate)
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, staged)
        session = onnxruntime.InferenceSession(staged, providers=["CPUExecutionProvider"])
        _compare(deployed, sample, np.asarray(session.run(None, {"obs": sample.numpy()})[0]))
        os.replace(staged, path)
    return path


def _require_weights(model: onnx.ModelProto, deployed: Policy) -> None:
    """Raise `FermoError` unless the file holds the policy's very weights and normalisation."""
    from onnx import numpy_helper

    stored = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for name, value in deployed.state_dict().items():
        absent = np.zeros(value.shape, np.float32)  # the exporter leaves zero biases out
        if not np.array_equal(stored.get(f"policy.{name}", absent), value.numpy()):
            raise FermoError(f"the exported graph does not hold the certified {name}: not written")


@torch.no_grad()
def _compare(deployed: Policy, sample: Tensor, exported: np.ndarray) -> None:
    """Raise `FermoError` unless the exported actions are the policy's up to float32 rounding."""
    expected = deployed.predict_action_chunk(sample).numpy()
    exact = copy.deepcopy(deployed).double().predict_action_chunk(sample.double()).numpy()
    tolerance = max(TOLERANCE * max(1.0, np.abs(expected).max()), 4 * np.abs(expected - exact).max())
    error = np.abs(exported - expected).max()
    if not error <= tolerance:  # NaN included
        raise FermoError(f"the exported graph differs from the policy by {error:.2g} > {tolerance:.2g}: not written")


class _Chunk(nn.Module):
    """The exporter traces `forward`, which for a policy is its loss."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor) -> Tensor:
        return self.policy.predict_action_chunk(obs)


def _sample(policy: Policy) -> Tensor:
    """Observations inside the declared bounds, or near zero where there are none, shape ``(16, observation_size)``."""
    signals = policy.spec.observations
    low = np.nan_to_num(np.concatenate([signal.low for signal in signals]), neginf=-1.0)
    high = np.nan_to_num(np.concatenate([signal.high for signal in signals]), posinf=1.0)
    values = np.random.default_rng(0).uniform(np.minimum(low, high), np.maximum(low, high), size=(16, len(low)))
    return torch.as_tensor(values, dtype=torch.float32)


def _trace(policy: Policy, sample: Tensor) -> onnx.ModelProto:
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")  # says that torchvision is absent
    level = registry.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        registry.setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                _Chunk(policy), (sample,), dynamo=True, input_names=["obs"], output_names=["action"], verbose=False,
                dynamic_shapes={"obs": {0: torch.export.Dim("N")}},
            )  # fmt: skip
        finally:
            registry.setLevel(level)
    assert program is not None
    return program.model_proto
