"""What to say when memory has run out: what was tried, what it takes by estimate, and the keys that lower it most."""

from __future__ import annotations

import resource
import traceback
from typing import TYPE_CHECKING

from ftl_config.errors import FtlError
from ftl_config.protocol import ExitCode

if TYPE_CHECKING:
    from ftl_config.memory.activations import Batch
    from ftl_config.memory.devices import Device
    from ftl_config.memory.estimate import Estimate
    from ftl_runner.context import TrainJob

BATCH_ATTRIBUTE = "ftl_batch"
"""Set on an error that a training step raised: (rows, length) of its batch."""

_PHRASES = (
    "can't allocate memory",
    "out of memory",
    "Cannot allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
    "Unable to allocate",
)
_PLAIN_HINT = (
    "halve micro_batch_size and double gradient_accumulation_steps, lower sequence_len, "
    "or set gradient_checkpointing: true"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the device or of the machine ran out, in any library's words."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | OSError) and any(phrase in str(error) for phrase in _PHRASES)


def out_of_memory(error: BaseException, said: str, job: TrainJob | None) -> FtlError:
    """The error to report.

    Args:
        error: what a library raised.
        said: its first line.
        job: the run, where it is known; without it, or where the model's shapes are not, general advice is given.
    """
    message = f"out of memory: {said}"
    if job is None:
        return FtlError(message, _PLAIN_HINT, ExitCode.OUT_OF_MEMORY)
    traceback.clear_frames(error.__traceback__)  # they hold the tensors, and the estimate needs memory too
    try:
        tried, hint = _explained(error, job)
    except Exception:  # whatever it is, memory ran out, and that has to be said
        return FtlError(message, _PLAIN_HINT, ExitCode.OUT_OF_MEMORY)
    return FtlError(f"{message}\n{tried}", hint, ExitCode.OUT_OF_MEMORY)


def _explained(error: BaseException, job: TrainJob) -> tuple[str, str]:
    from pathlib import Path

    from ftl_config.memory.advice import advise
    from ftl_config.memory.estimate import estimate, gib
    from ftl_config.memory.model_config import read_model_config
    from ftl_runner.distributed.ranks import world_size

    config, root, device = job.loaded.config, Path(job.workdir), _device()
    model_config = read_model_config(config, root)
    batch = _batch(error, job)
    found = estimate(config, model_config, device, world_size(), root=root, batch=batch)
    parts = ", ".join(f"{part.name} {gib(part.num_bytes)}" for part in found.parts)
    lines = [
        f"  tried: {_settings(found, job, at_hand=batch is not None)}",
        f"  peak so far: {gib(_peak_bytes())} of {gib(device.memory_bytes)}",
        f"  estimated need: {gib(found.peak_bytes)} ({parts})",
    ]
    advice = advise(job.loaded, model_config, found, root=root, batch=batch)
    return "\n".join(lines), "; or ".join(map(str, advice)) or _PLAIN_HINT


def _settings(found: Estimate, job: TrainJob, *, at_hand: bool) -> str:
    from ftl_config.memory.number_formats import number_format

    config = job.loaded.config
    numbers = number_format(config, found.device)
    kind = config.adapter.adapter or "a full fine-tune"
    for loaded, bits in ((config.adapter.load_in_4bit, 4), (config.adapter.load_in_8bit, 8)):
        kind += f" on {bits}-bit weights" if loaded else ""
    size = f"{found.batch.rows} x {found.batch.length} tokens" + ("" if at_hand else " (the most that a batch can be)")
    checkpointing = "" if config.training.gradient_checkpointing else ", without gradient checkpointing"
    precision = "16-bit numbers" if numbers.size == 2 else "float32"
    devices = f"{found.num_devices} x {found.device.name} ({found.sharding})"
    return f"{size}, {precision}, {kind}{checkpointing}, {devices}"


def _batch(error: BaseException, job: TrainJob) -> Batch | None:
    from ftl_config.memory.activations import Batch, training_batch

    shape = getattr(error, BATCH_ATTRIBUTE, None)
    if shape is None:
        return None
    config, (rows, length) = job.loaded.config, shape
    asked = config.training.micro_batch_size
    if rows == 1 < asked and not config.data.sample_packing:
        # Rows that were joined without padding: told as the rows that they were, which is what the keys are about.
        rows, length = asked, -(-length // asked)
    return Batch(rows, length, training_batch(config).mask)


def _device() -> Device:
    import torch

    from ftl_config.memory.devices import Device, cpu_device

    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(torch.cuda.current_device())
        return Device(facts.name, facts.total_memory, has_bf16=torch.cuda.is_bf16_supported())
    return cpu_device(_limit_bytes())


def _limit_bytes() -> int:
    """Memory of the machine, or what this process may use of it."""
    import psutil

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    total = int(psutil.virtual_memory().total)
    return total if soft == resource.RLIM_INFINITY else min(total, soft)


def _peak_bytes() -> int:
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
