"""A streamed training set under transformers' Trainer: each rank reads its own share, and a checkpoint says how far.

The position is that of the last batch that was trained on, whatever had been read ahead, and is saved with every
checkpoint (``stream-<rank>.json``), so that a resumed run goes on with the rows that have not been seen, without
reading through those that have.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Generator
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftl_config.errors import FtlError
from ftl_config.protocol import EventType
from ftl_runner.checkpoints.errors import ResumeError
from ftl_runner.checkpoints.manifest import FOLDER_PREFIX
from ftl_runner.context import RunContext
from ftl_runner.data.stream import Cursor, Shard, StreamSet
from ftl_runner.trainer.token_trainer import SftTrainer

_ERROR, _MARK = "stream_error", "stream_mark"


@dataclass
class Position:
    """How far a rank has trained: the cursor of each of its shards, and the batches so far."""

    world_size: int
    num_workers: int
    batches: int
    cursors: dict[int, Cursor]

    def to_json(self) -> str:
        """Text of the position file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Position:
        """The inverse of ``to_json``."""
        values = json.loads(text)
        cursors = {
            int(shard): Cursor(cursor["passes"], tuple(cursor["rows"]), cursor["taken"])
            for shard, cursor in values["cursors"].items()
        }
        return cls(values["world_size"], values["num_workers"], values["batches"], cursors)


class StreamShare(IterableDataset):  # type: ignore[misc]
    """The rows of one rank, split between the loader's worker processes; without end."""

    def __init__(self, stream: StreamSet, rank: int, position: Position) -> None:
        self._stream, self._rank, self._position = stream, rank, position

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        processes, number = (info.num_workers, info.id) if info else (1, 0)
        # Batches come from the workers in turn: the next one is that of the shard whose turn it was.
        local = (number + self._position.batches) % processes
        shard = Shard(self._rank * processes + local, self._position.world_size * processes)
        cursor = self._position.cursors.get(shard.number, Cursor())
        if info is not None:
            os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads of a forked tokenizer may lock up; it would say so
        try:
            for row, following in self._stream.rows(shard, cursor):
                yield {**row, _MARK: (shard.number, following)}
        except FtlError as error:
            if info is None:
                raise
            yield {_ERROR: error}  # raised in a worker, it would come out as text with a traceback


class StreamLoader(DataLoader):  # type: ignore[misc]
    """Batches of a rank; keeps the position of what has been handed out."""

    def __init__(
        self, stream: StreamSet, rank: int, position: Position, collate: Callable[..., Any], **options: Any
    ) -> None:
        self.position = position
        super().__init__(
            StreamShare(stream, rank, position),
            collate_fn=_Collate(collate),
            num_workers=position.num_workers,
            # Of its own, or starting the loader would draw from the generator that dropout draws from.
            generator=Generator().manual_seed(0),
            **options,
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in super().__iter__():
            if _ERROR in batch:
                raise batch[_ERROR]
            shard, cursor = batch.pop(_MARK)
            self.position.cursors[shard] = cursor
            self.position.batches += 1
            yield batch


@dataclass(frozen=True)
class _Collate:
    inner: Callable[..., Any]

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        failed = next((row for row in rows if _ERROR in row), None)
        if failed is not None:
            return {_ERROR: failed[_ERROR]}
        return {**self.inner(rows), _MARK: rows[-1][_MARK]}


class StreamTrainer(SftTrainer):
    """The Trainer with a loader that no one shards again: Accelerate would give each rank a part of its part."""

    def __init__(self, *, loader: StreamLoader, **arguments: Any) -> None:
        self._loader = loader
        super().__init__(train_dataset=loader.dataset, **arguments)

    def get_train_dataloader(self) -> DataLoader:
        return self._loader


class SaveStreamPosition(TrainerCallback):  # type: ignore[misc]
    """Writes the position into each checkpoint, before it is committed; tells at the end what was left out."""

    def __init__(self, context: RunContext, loader: StreamLoader, stream: StreamSet) -> None:
        self._context, self._loader, self._stream = context, loader, stream

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        folder = self._context.output_dir / f"{FOLDER_PREFIX}{state.global_step}"
        path = position_file(folder, self._context.ranks.rank)
        path.write_text(self._loader.position.to_json(), encoding="utf-8")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        dropped = [f"{count:,} {why.replace('_', ' ')}" for why, count in self._stream.tally.dropped.items() if count]
        if dropped:
            read = self._stream.tally.rows_read
            message = f"of {read:,} rows that the main process read, these were not trained on: {', '.join(dropped)}"
            self._context.events.emit(EventType.WARNING, message=message)


def position_file(folder: Path, rank: int) -> Path:
    """Where a checkpoint keeps a rank's position."""
    return folder / f"stream-{rank:05d}.json"


def make_stream_loader(
    context: RunContext, stream: StreamSet, collate: Callable[..., Any], arguments: TrainingArguments
) -> StreamLoader:
    """The loader of this rank, at the beginning of the stream."""
    position = Position(context.ranks.world_size, arguments.dataloader_num_workers, 0, {})
    return StreamLoader(
        stream,
        context.ranks.rank,
        position,
        collate,
        batch_size=arguments.per_device_train_batch_size,
        pin_memory=arguments.dataloader_pin_memory,
        prefetch_factor=arguments.dataloader_prefetch_factor,
    )


def restore_position(loader: StreamLoader, folder: Path, rank: int) -> None:
    """Go on where a checkpoint was.

    Raises:
        ResumeError: the checkpoint knows no position, or the rows were shared out differently.
    """
    path = position_file(folder, rank)
    position = loader.position
    if not path.is_file():
        raise ResumeError(
            f"{folder.name} does not say how far its data stream had been read ({path.name} is missing)",
            "continue with as many workers as saved it, or start anew from it with another output_dir",
        )
    saved = Position.from_json(path.read_text(encoding="utf-8"))
    if (saved.world_size, saved.num_workers) != (position.world_size, position.num_workers):
        raise ResumeError(
            f"{folder.name} shared its data stream out over {saved.world_size} workers with dataloader_num_workers "
            f"{saved.num_workers}; this run has {position.world_size} with {position.num_workers}",
            "continue with the same numbers: with others, rows would be seen twice or not at all",
        )
    position.batches = saved.batches
    position.cursors.update(saved.cursors)
