"""Supervised training of a policy on demonstrations held in memory."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from fermo.errors import FermoError
from fermo.policies.base import Policy
from fermo.training.data.samples import make_samples
from fermo.training.loops.bc_config import BcConfig
from fermo.training.loops.demonstrations import check_data, split_episodes
from fermo.training.loops.interrupt import deferred_interrupt
from fermo.training.loops.processes import Processes
from fermo.training.loops.random_streams import Stream, global_stream, stream_generator
from fermo.training.loops.state import load_state, optimizer_tensors, restore_optimizer, save_state

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Augment = Callable[[Tensor, torch.Generator], Tensor]
OnStep = Callable[[int, Mapping[str, Tensor]], None]

_VALIDATION_FRAMES = 4096  # at most, whatever is held out


class TrainingInterrupted(FermoError):  # noqa: N818  a request, not an error
    """Training stopped on request, after `step` whole steps; the state is saved when there is a folder."""

    def __init__(self, step: int, steps: int, folder: Path | None) -> None:
        kept = f"state saved in {folder}, go on with resume" if folder else "nothing saved: there is no folder"
        super().__init__(f"training stopped at step {step} of {steps}; {kept}")
        self.step = step


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a training ended: steps done in all, the last logged metrics, and this call's wall time [s] and steps."""

    step: int
    metrics: dict[str, float]
    seconds: float
    steps_taken: int


class BcTrainer:
    """One training under way: the policy, its optimiser and average, and which step comes next.

    All randomness is a function of (seed, step), so a resumed training repeats an uninterrupted one bit by bit on
    the CPU.
    """

    def __init__(self, policy: Policy, observations: Tensor, actions: Tensor, *, config: BcConfig,
                 weights: Tensor | None = None, augment: Augment | None = None, next_observations: Tensor | None = None,
                 episode_index: Tensor | None = None, goals: Tensor | None = None,
                 processes: Processes | None = None) -> None:  # fmt: skip
        self.processes = processes or Processes()
        if config.batch_size % self.processes.count:
            raise FermoError(f"batch_size {config.batch_size} must be a multiple of the {self.processes.count} "
                             "processes, which share each batch")  # fmt: skip
        self.device = device = torch.device(config.device)
        self.config, self.policy, self.augment = config, policy.to(device), augment
        observations, actions = observations.float(), actions.float()
        check_data(policy, observations, actions, weights, next_observations)
        given = {"observation": observations, "action": actions, "weight": weights,
                 "next_observation": next_observations, "goal": goals}  # fmt: skip
        data = {name: tensor.float().to(device) for name, tensor in given.items() if tensor is not None}
        self.samples = make_samples(data, policy.window, episode_index)
        self.learned, self.held_out = split_episodes(len(observations), episode_index, config)
        self.policy.fit_normalization(observations[self.learned], actions[self.learned])
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(policy),
            lr=config.lr,
            weight_decay=config.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        self.model = self.processes.module(self.policy)
        self.average = [p.detach().clone() for p in self.policy.parameters()] if config.ema_decay else None
        self.step = 0
        self._order, self._epoch = torch.empty(0, dtype=torch.long), -1

    def take_step(self) -> dict[str, Tensor]:
        """One gradient step; returns its metrics."""
        lr = self.config.lr_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with global_stream(self.config.seed, Stream.FORWARD, self.step, self.device, self.processes.rank):
            loss, metrics = self.model(self._batch())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.config.grad_clip)
        self.optimizer.step()
        if self.average is not None and self.config.ema_decay:
            decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.policy.parameters()], 1 - decay)
        self.step += 1
        return metrics

    def validate(self) -> dict[str, Tensor]:
        """The loss on episodes that were held out, with the averaged weights when there are any; {} without such."""
        if not len(self.held_out):
            return {}
        generator = stream_generator(self.config.seed, Stream.VALIDATE, 0, self.device)
        batch = self.samples.batch(self.held_out[:_VALIDATION_FRAMES].to(self.device), generator)
        names = [name for name, _ in self.policy.named_parameters()]
        weights = dict(zip(names, self.average, strict=True)) if self.average is not None else {}
        self.policy.eval()
        with global_stream(self.config.seed, Stream.VALIDATE, 1, self.device):
            loss = torch.func.functional_call(self.policy, weights, (batch,))[0]
        self.policy.train()
        return {"validation/loss": loss.detach()}

    def finish(self) -> None:
        """Give the policy its final weights: the averaged ones when there is an average."""
        if self.average is not None:
            self.policy.take_average(self.average)

    def save(self, folder: Path) -> None:
        """Write the state from which `restore` goes on; every process's is the same, so the first one's is kept."""
        if not self.processes.first:
            return
        tensors = {f"policy.{name}": tensor for name, tensor in self.policy.state_dict().items()}
        tensors |= {f"optimizer.{n}": t for n, t in optimizer_tensors(self.optimizer, self.policy).items()}
        if self.average is not None:
            names = [name for name, _ in self.policy.named_parameters()]
            tensors |= {f"average.{name}": t for name, t in zip(names, self.average, strict=True)}
        save_state(folder, tensors, {"step": self.step, "config": self._identity})

    def restore(self, folder: Path) -> None:
        """Go on from the state in `folder`. Raises `FermoError` if there is none or it is another training's."""
        state = load_state(folder)
        stored = state.header["config"]
        changed = [key for key, value in self._identity.items() if stored.get(key) != value]
        if changed:
            names = ", ".join(changed)
            raise FermoError(f"{folder} holds a training with other {names}: repeat its settings or start anew")
        self.policy.load_state_dict(state.group("policy"))
        restore_optimizer(self.optimizer, self.policy, state.group("optimizer"))
        if self.average is not None:
            stored_average = state.group("average")
            for (name, _), tensor in zip(self.policy.named_parameters(), self.average, strict=True):
                tensor.copy_(stored_average[name])
        self.step = int(state.header["step"])

    @cached_property
    def _identity(self) -> dict[str, object]:
        """What must agree for a resumed training to be the same training, as plain JSON."""
        free = ("log_every", "checkpoint_every", "device")
        settings = {key: value for key, value in asdict(self.config).items() if key not in free}
        digest = hashlib.sha256()
        for name, tensor in sorted(self.samples.frames.items()):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        policy = json.loads(json.dumps(asdict(self.policy.config)))
        settings["processes"] = self.processes.count
        return settings | {"data": digest.hexdigest(), "family": self.policy.family, "policy": policy}

    def _batch(self) -> dict[str, Tensor]:
        samples = len(self.learned)
        size = min(self.config.batch_size, samples // self.processes.count * self.processes.count)
        epoch, position = divmod(self.step, samples // size)
        if epoch != self._epoch:
            generator = stream_generator(self.config.seed, Stream.SHUFFLE, epoch)
            self._order = self.learned[torch.randperm(samples, generator=generator)].to(self.device)
            self._epoch = epoch
        chosen = self.processes.share(self._order[position * size : (position + 1) * size])
        batch = self.samples.batch(chosen, self._generator(Stream.SAMPLE))
        if self.augment is not None:
            generator = self._generator(Stream.AUGMENT)
            for name in ("observation", "next_observation"):
                if name in batch:
                    batch[name] = self.augment(batch[name], generator)
        return batch

    def _generator(self, stream: Stream) -> torch.Generator:
        """This step's and this process's own."""
        return stream_generator(self.config.seed, stream, self.step, self.device, self.processes.rank)


def train_bc(policy: Policy, observations: Tensor, actions: Tensor, *, config: BcConfig, weights: Tensor | None = None,
             augment: Augment | None = None, next_observations: Tensor | None = None,
             episode_index: Tensor | None = None, goals: Tensor | None = None,
             folder: str | Path | None = None, on_step: OnStep | None = None, resume: bool = False,
             processes: Processes | None = None) -> TrainingResult:  # fmt: skip
    """Train `policy` in place on demonstrations.

    Args:
        policy: Fresh, or any policy whose `forward` gives a loss; its normalisation is fitted first.
        observations: Shape ``(M, observation_size)``, SI units.
        actions: Shape ``(M, command_size)`` or ``(M, H, command_size)``, SI units.
        config: Settings.
        weights: Weight of each sample, shape ``(M,)``; equal when None.
        augment: Changes a batch of observations, for example `ObservationNoise`.
        next_observations: Each sample's observation one control step later, shape ``(M, observation_size)``; its own
            where its episode ends. Only for a policy that needs them.
        episode_index: Which episode a sample belongs to, shape ``(M,)``, never decreasing; each its own when None. For
            policies with a window, and for holding episodes out.
        goals: Goal of each sample, shape ``(M, goal_size)``, for policies whose goals are a column of the dataset.
        folder: Gets the resumable state and TensorBoard metrics; nothing is written when None.
        on_step: Called after each step with the steps done and the step's metrics.
        resume: Go on from the state in `folder`.
        processes: Which other processes train the same policy on the same demonstrations: each takes its share of every
            batch, and the gradients' mean is everybody's. This one alone when None.

    Raises:
        TrainingInterrupted: Ctrl-C was pressed; the state was saved after a whole step.
        FermoError: Data or settings are unusable, the loss is no longer finite, or there is nothing to resume.
    """
    trainer = BcTrainer(policy, observations, actions, config=config, weights=weights, augment=augment,
                        next_observations=next_observations, episode_index=episode_index, goals=goals,
                        processes=processes)  # fmt: skip
    folder = Path(folder) if folder is not None else None
    if resume:
        if folder is None:
            raise FermoError("resume needs the folder that holds the training state")
        trainer.restore(folder)
    return _descend(trainer, folder, on_step)


def _descend(trainer: BcTrainer, folder: Path | None, on_step: OnStep | None) -> TrainingResult:
    """From the trainer's step to the last one, logged and saved on the way."""
    config, policy = trainer.config, trainer.policy
    first, start, metrics = trainer.step, time.perf_counter(), {}
    policy.train()
    with (
        deferred_interrupt() as interrupted,
        _writer(folder if trainer.processes.first else None, first) as writer,
        tqdm(total=config.steps, initial=first, desc=policy.family, unit="step",
             disable=None if trainer.processes.first else True) as bar,
    ):
        while trainer.step < config.steps:
            metrics = trainer.take_step()
            due = trainer.step % config.checkpoint_every == 0 or trainer.step == config.steps
            if due:
                metrics |= trainer.validate()
            if trainer.step % config.log_every == 0 or due:
                _log(metrics, trainer, bar, writer, first, time.perf_counter() - start)
            if on_step is not None:
                on_step(trainer.step, metrics)
            stopped = trainer.processes.any(interrupted())
            if folder is not None and (due or stopped):
                if writer is not None:
                    writer.flush()  # what is not on disk now would be missing from a run that is killed and resumed
                trainer.save(folder)
            if stopped:
                raise TrainingInterrupted(trainer.step, config.steps, folder)
            bar.update()
    trainer.finish()
    policy.eval()
    means = trainer.processes.mean(_floats(metrics))
    return TrainingResult(step=trainer.step, metrics=means, seconds=time.perf_counter() - start,
                          steps_taken=trainer.step - first)  # fmt: skip


def _floats(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in metrics.items()}


def _log(metrics: dict[str, Tensor], trainer: BcTrainer, bar: tqdm, writer: SummaryWriter | None, first: int,
         seconds: float) -> None:  # fmt: skip
    values = trainer.processes.mean(_floats(metrics))
    if not all(map(math.isfinite, values.values())):
        raise FermoError(f"training diverged at step {trainer.step} ({values}): lower the learning rate")
    bar.set_postfix({name: f"{value:.4g}" for name, value in values.items()}, refresh=False)
    if writer is not None:
        for name, value in values.items():
            writer.add_scalar(name if "/" in name else f"train/{name}", value, trainer.step)
        writer.add_scalar("train/lr", trainer.config.lr_at(trainer.step - 1), trainer.step)
        writer.add_scalar("speed/steps_per_s", (trainer.step - first) / seconds, trainer.step)


@contextmanager
def _writer(folder: Path | None, step: int) -> Iterator[SummaryWriter | None]:
    if folder is None:
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None) as writer:
        yield writer


def _parameter_groups(policy: Policy) -> list[dict[str, object]]:
    """Parameters that weight decay acts on, and then those it leaves alone where there are any."""
    spared = {id(parameter) for parameter in policy.undecayed_parameters()}
    decayed: list[dict[str, object]] = [{"params": [p for p in policy.parameters() if id(p) not in spared]}]
    return decayed + ([{"params": policy.undecayed_parameters(), "weight_decay": 0.0}] if spared else [])
