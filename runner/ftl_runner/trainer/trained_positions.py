"""The output head at trained positions only.

The head is the largest matrix of a small model, and its logits in float32 the largest tensor of any; where prompts and
padding are not trained, nobody reads their logits. Loss and gradients are the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from transformers.loss.loss_utils import ForCausalLMLoss

from ftl_runner.data.encode import IGNORE_INDEX


class TrainedPositions:
    """Drops hidden states on their way into the head of a model, while a batch is worked on."""

    def __init__(self, head: Any) -> None:
        self._wanted: torch.Tensor | None = None
        head.register_forward_pre_hook(self._keep_wanted)

    @classmethod
    def of(cls, model: Any) -> TrainedPositions | None:
        """For a model with an output head and transformers' own causal loss; None for any other."""
        head = model.get_output_embeddings()
        if head is None or getattr(model, "loss_function", None) is not ForCausalLMLoss:
            return None
        return cls(head)

    @contextlib.contextmanager
    def of_batch(self, labels: torch.Tensor) -> Iterator[torch.Tensor]:
        """While this lasts, the head is given the trained positions only.

        Args:
            labels: (rows, length), not shifted.

        Yields:
            (1, trained): the label of each such position, as the ``shift_labels`` of the loss.
        """
        targets = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX).flatten()
        self._wanted = torch.nonzero(targets != IGNORE_INDEX).squeeze(1)
        try:
            yield targets[self._wanted].unsqueeze(0)
        finally:
            self._wanted = None

    def _keep_wanted(self, head: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._wanted is None:
            return None
        hidden, *rest = arguments
        return (hidden.flatten(0, 1)[self._wanted].unsqueeze(0), *rest)
