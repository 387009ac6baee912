"""A policy on disk: a folder of JSON and safetensors, written whole or not at all, and never a pickle."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import fermo
from fermo.errors import FermoError
from fermo.policies.base import Policy
from fermo.policies.checkpoint_header import FORMAT, REMEDY, first_line, read_header, read_spec, sha256_of
from fermo.policies.model_card import model_card
from fermo.policies.registry import config_class, policy_class


def save_checkpoint(policy: Policy, folder: str | Path, *, extra: dict[str, Any] | None = None) -> Path:
    """Write the folded policy to `folder`, replacing a checkpoint that is there.

    The weights stored are the plain ones the robot will use; to go on training, keep the training loop's own state.

    Args:
        policy: Left unchanged.
        folder: Created; its parents too.
        extra: Plain JSON kept in ``config.json``, for example where the data came from.

    Raises:
        FermoError: `folder` exists and is no checkpoint, or a weight is NaN or infinite.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "config.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FermoError(f"{folder} exists and is not a checkpoint: choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write_files(copy.deepcopy(policy).cpu().fold(), staging, extra)
        staging.chmod(0o755)  # mkdtemp makes it private
        _replace_folder(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def load_checkpoint(folder: str | Path, device: str | torch.device = "cpu") -> Policy:
    """The policy stored in `folder`, in evaluation mode, without gradients on its weights.

    Raises:
        FermoError: A file is missing, damaged, changed since it was written, or does not fit the others.
    """
    folder = Path(folder)
    header = read_header(folder)
    spec = read_spec(folder)
    family = header["family"]
    config = _config_from_json(config_class(family), header["config"], folder / "config.json")
    try:
        policy = policy_class(family)(spec, config).fold()
        policy.load_state_dict(load_file(folder / "model.safetensors"))
    except (SafetensorError, RuntimeError, KeyError) as error:
        path = folder / "model.safetensors"
        raise FermoError(f"{path} does not fit config.json: {first_line(error)}; {REMEDY}") from error
    return policy.to(device).eval().requires_grad_(False)


def _write_files(policy: Policy, folder: Path, extra: dict[str, Any] | None) -> None:
    state = {name: tensor.detach().contiguous() for name, tensor in policy.state_dict().items()}
    bad = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise FermoError(f"{bad[0]} holds NaN or infinity: the training diverged, lower the learning rate")
    save_file(state, folder / "model.safetensors")
    normalization = {name: tensor.tolist() for name, tensor in state.items() if "normalizer" in name}
    _write_json(folder / "signals.json", {"plant": policy.spec.to_json(), "normalization": normalization})
    digests = {name: sha256_of(folder / name) for name in ("model.safetensors", "signals.json")}
    written = datetime.now(UTC).isoformat(timespec="seconds")
    header = {
        "format": FORMAT, "fermo_version": fermo.__version__, "written": written, "family": policy.family,
        "config": asdict(policy.config), "sha256": digests, "extra": extra or {},
    }  # fmt: skip
    certificate = policy.certificate()
    if certificate is None:
        header["uncertified"] = policy.why_uncertified()
    _write_json(folder / "config.json", header)
    if certificate is not None:
        made = {"weights_sha256": digests["model.safetensors"], "fermo_version": fermo.__version__, "date": written}
        _write_json(folder / "certificate.json", certificate | made)
    (folder / "README.md").write_text(model_card(header, policy.spec, certificate), encoding="utf-8")


def _replace_folder(staging: Path, folder: Path) -> None:
    """Move `staging` to `folder`; what was there is put back should the move fail."""
    if not folder.exists():
        os.rename(staging, folder)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    os.rename(folder, retired / "checkpoint")
    try:
        os.rename(staging, folder)
    except BaseException:
        os.rename(retired / "checkpoint", folder)
        raise
    finally:
        shutil.rmtree(retired, ignore_errors=True)


def _config_from_json(kind: type[Any], data: dict[str, Any], path: Path) -> Any:
    try:
        unknown = sorted(set(data) - {item.name for item in fields(kind)})
        if unknown:
            names = ", ".join(unknown)
            raise FermoError(f"{path} sets {names}, which {kind.__name__} does not have: install a matching fermo")
        kinds = get_type_hints(kind)
        values = {
            name: _config_from_json(kinds[name], value, path) if is_dataclass(kinds[name]) else _tuples(value)
            for name, value in data.items()
        }
        return kind(**values)
    except (TypeError, AttributeError) as error:
        raise FermoError(f"{path} does not make a {kind.__name__}: {error}; {REMEDY}") from error


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
