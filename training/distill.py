"""From a diffusion policy's checkpoint to that of a student that samples in one step, resumable."""

from __future__ import annotations

from pathlib import Path

from fermo.errors import FermoError
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.policies.checkpoint_header import read_header
from fermo.training.data.reader import Dataset
from fermo.training.fit import train_on
from fermo.training.loops.consistency import ConsistencyStudent, student_config
from fermo.training.loops.distill_config import DistillConfig
from fermo.training.loops.processes import Processes


def distill(teacher: Path, data: Path, folder: Path, *, loop: DistillConfig) -> BesoPolicy:
    """Distil a checkpoint on the windows of a dataset and leave the student in ``folder/checkpoint``.

    Args:
        teacher: Checkpoint folder of a `beso` policy of objective edm.
        data: Dataset folder; usually the one that the teacher was trained on.
        folder: Gets the loop's state, its metrics and the checkpoint; whatever is there already is continued.
        loop: Settings.

    Raises:
        KeyboardInterrupt: Training was interrupted; its state is saved.
        FermoError: The teacher cannot be distilled, the dataset is of another plant, or what is there already is
            another training or another policy's checkpoint.
    """
    known = load_checkpoint(teacher)
    if not isinstance(known, BesoPolicy):
        raise FermoError(f"{teacher} holds {known.family}, which samples nothing: distil a policy of the family beso")
    config, checkpoint = student_config(known.config), folder / "checkpoint"
    if not checkpoint.is_dir():
        dataset = Dataset.open(data)
        if problems := known.spec.mismatches(dataset.spec):
            raise FermoError(f"{data} does not fit {teacher}: {'; '.join(problems)}")
        student = ConsistencyStudent(known, loop)
        metrics = train_on(student, dataset, folder, loop, Processes())
        task = read_header(teacher)["extra"].get("task")
        extra = {"task": task, "data": str(data), "teacher": str(teacher), "metrics": metrics}
        save_checkpoint(student.finished(), checkpoint, extra=extra)
    found = load_checkpoint(checkpoint)
    if not isinstance(found, BesoPolicy) or found.config != config:
        raise FermoError(f"{checkpoint} holds {found.family} with {found.config}; remove it, or choose another folder")
    return found
