"""FSDP2 on processors: Accelerate has it for accelerators only, and would train unsharded on a CPU without a word.

PyTorch's ``fully_shard`` runs on CPUs over gloo, and so does the rest of Accelerate's FSDP2. Only one list of kinds of
process groups stands in the way: the kind "several processes on CPUs" is not in it. Here the group is given the name of
a kind that is, before Accelerate looks; it calls the group FSDP from then on.

Upstream: https://github.com/huggingface/accelerate/blob/v1.15.0/src/accelerate/state.py
(``AcceleratorState.__init__``); to be removed when ``MULTI_CPU`` is in that list.
"""

from __future__ import annotations

from packaging.specifiers import SpecifierSet

from ftl_config.errors import FtlError

VERSIONS = SpecifierSet(">=1.15,<1.16")


def allow_fsdp_on_cpu() -> None:
    """To be called between the making of ``TrainingArguments`` and of the Trainer.

    Raises:
        FtlError: this version of Accelerate is not one that the change was made for.
    """
    import accelerate
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    if accelerate.__version__ not in VERSIONS:
        raise FtlError(
            f"FSDP on a CPU works with accelerate {VERSIONS}, not {accelerate.__version__}",
            "use deepspeed: zero3.json, or install such a version",
            exit_code=2,
        )
    if PartialState().distributed_type == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
