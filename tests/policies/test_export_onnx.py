import copy
import json
import sys
import warnings

import numpy as np
import pytest
import torch

from fermo.cli import main
from fermo.errors import FermoError
from fermo.policies import export_onnx as export_module
from fermo.policies.checkpoint import save_checkpoint
from fermo.policies.export_onnx import export_onnx
from fermo.signal import PlantSpec
from tests.policies.plants import SPEC, demonstrations, fitted_policy


def test_the_file_carries_the_plant_and_adds_the_action_base(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    policy = fitted_policy("lipschitz_bc", action_base="joint_position")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session = onnxruntime.InferenceSession(export_onnx(policy, tmp_path / "deep" / "policy.onnx"))
    assert PlantSpec.from_json(json.loads(session.get_modelmeta().custom_metadata_map["fermo.plant"])) == SPEC
    obs = demonstrations(5)[0]
    (chunk,) = session.run(None, {"obs": obs.numpy()})
    np.testing.assert_allclose(chunk[:, 0], policy.select_action(obs).detach().numpy(), atol=2e-6)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["policy.onnx"]


def test_a_graph_that_disagrees_is_not_written(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    other = fitted_policy("mlp_bc", seed=5).fold()
    trace = export_module._trace
    monkeypatch.setattr(export_module, "_trace", lambda policy, sample: trace(other, sample))
    with pytest.raises(FermoError, match="differs from the policy"):
        export_onnx(fitted_policy("mlp_bc"), tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_extra_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(FermoError, match=r"pip install 'fermo\[onnx\]'"):
        export_onnx(fitted_policy("mlp_bc"), tmp_path / "policy.onnx")


def test_export_leaves_the_policy_trainable(tmp_path):
    pytest.importorskip("onnxruntime")
    policy = fitted_policy("lipschitz_bc")
    export_onnx(policy, tmp_path / "policy.onnx")
    assert all(parameter.requires_grad for parameter in policy.parameters())
    assert any(".free." in name for name, _ in policy.named_parameters())
    assert torch.isfinite(policy.select_action(demonstrations(3)[0])).all()


def test_a_certificate_goes_with_the_weights_it_was_proved_for_and_no_others(tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    policy = fitted_policy("lipschitz_bc")
    save_checkpoint(policy, tmp_path / "checkpoint")
    main(["export", str(tmp_path / "checkpoint")])
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    inside = json.loads(session.get_modelmeta().custom_metadata_map["fermo.certificate"])
    assert inside == json.loads((tmp_path / "checkpoint/certificate.json").read_text())
    trace = export_module._trace

    def perturbed(deployed, sample):
        other = copy.deepcopy(deployed)
        with torch.no_grad():
            other.network[0].weight[0, 0] += 1e-7  # far less than the comparison of actions would notice
        return trace(other, sample)

    monkeypatch.setattr(export_module, "_trace", perturbed)
    with pytest.raises(FermoError, match=r"does not hold the certified network\.0\.weight"):
        export_onnx(policy, tmp_path / "other.onnx", certificate=inside)
    assert not (tmp_path / "other.onnx").exists()
