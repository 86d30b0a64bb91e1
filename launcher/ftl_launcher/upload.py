"""What of ``launch.workdir`` travels to the machines, and how much it is.

Left out are what ``.gitignore`` files and the folder's own ``.ftlignore`` (the same syntax) name, and Ray's usual
``.git``, ``.venv``, ``venv`` and ``__pycache__``.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftl_config.errors import FtlError
from ftl_launcher.paths import RunDir
from ftl_launcher.plan import ON_THIS_MACHINE, RunPlan

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

    from ftl_config import LoadedConfig

IGNORE_FILE = ".ftlignore"
USUAL = (".git", ".venv", "venv", "__pycache__")

_LARGEST = 5
_MIB = 2**20
_LIMITS = {"ray": 512 * _MIB, "dstack": 2 * _MIB}
"""The largest package that Ray takes (RAY_max_grpc_message_size), and dstack (DSTACK_SERVER_CODE_UPLOAD_LIMIT)."""
_TOO_MUCH = 1024 * _MIB
"""From here on a warning, where nobody sets a limit: every node gets it all, at every start."""


@dataclass(frozen=True)
class Upload:
    """Files that would travel, by their path in the folder -> bytes."""

    sizes: Mapping[Path, int]

    @property
    def total(self) -> int:
        return sum(self.sizes.values())

    def largest(self) -> str:
        """The largest files and folders directly in the workdir, in words."""
        parts = Counter[str]()
        for path, size in self.sizes.items():
            parts[path.parts[0] + ("/" if len(path.parts) > 1 else "")] += size
        return ", ".join(f"{name} {_mib(size)}" for name, size in parts.most_common(_LARGEST))


def read_ignore_file(workdir: str | None) -> tuple[str, ...]:
    """The patterns of a folder's ``.ftlignore``; none without one.

    Raises:
        FtlError: it cannot be read.
    """
    if workdir is None or not (file := Path(workdir) / IGNORE_FILE).is_file():
        return ()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FtlError(f"cannot read {file}: {error}", exit_code=2) from error
    return tuple(line for line in map(str.rstrip, lines) if line and not line.startswith("#"))


def excludes_of(plan: RunPlan) -> tuple[str, ...]:
    """What a plan's ``.ftlignore`` says now; runs on this machine send nothing.

    Raises:
        FtlError: it cannot be read.
    """
    return () if plan.backend in ON_THIS_MACHINE else read_ignore_file(plan.workdir)


def look_at_upload(root: Path, patterns: Sequence[str]) -> Upload:
    """Every file below ``root`` that would travel. Links to folders are not followed."""
    from pathspec import GitIgnoreSpec

    return Upload(dict(_walk(root, Path(), [(Path(), GitIgnoreSpec.from_lines([*USUAL, *patterns]))])))


def check_upload(loaded: LoadedConfig, plan: RunPlan, secrets: Mapping[str, str]) -> str | None:
    """Whether the workdir is small enough to be sent; what to warn of.

    Raises:
        FtlError: there is no such folder, or the backend would not take it.
    """
    if plan.backend in ON_THIS_MACHINE or plan.workdir is None or "://" in plan.workdir:
        return None
    root = Path(plan.workdir)
    if not root.is_dir():
        raise FtlError(f"launch.workdir: no such folder: {root}", exit_code=2)
    upload = look_at_upload(root, plan.upload_excludes)
    told = f"launch.workdir: {len(upload.sizes):,} files, {_mib(upload.total)} in {root} ({upload.largest()})"
    hint = f"name what need not travel in {root / IGNORE_FILE} (the syntax of .gitignore); data is better in a bucket"
    limit = _LIMITS.get(plan.backend)
    if limit is not None and upload.total > limit:
        raise FtlError(f"{told}: {plan.backend} takes up to {_mib(limit)}", hint, exit_code=2)
    return f"{told} travel to every node at every start; {hint}" if upload.total > _TOO_MUCH else None


def sent_folder(plan: RunPlan) -> str | None:
    """The folder to hand to a tool that knows .gitignore and not .ftlignore: with one, a folder of what is left.

    Raises:
        FtlError: it cannot be written.
    """
    if plan.workdir is None or not plan.upload_excludes:
        return plan.workdir
    target = RunDir.of(plan.name).workdir
    stage_upload(Path(plan.workdir), plan.upload_excludes, target)
    return str(target)


def stage_upload(root: Path, patterns: Sequence[str], target: Path) -> None:
    """A folder with just the files that travel, as hard links where that can be: for a tool with other rules.

    Raises:
        FtlError: it cannot be written.
    """
    shutil.rmtree(target, ignore_errors=True)
    try:
        for path in look_at_upload(root, patterns).sizes:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            _link(root / path, target / path)
    except OSError as error:
        raise FtlError(f"cannot gather {root} in {target}: {error}") from error


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system
        shutil.copy2(source, target, follow_symlinks=False)


def _walk(root: Path, folder: Path, ignored: Sequence[tuple[Path, GitIgnoreSpec]]) -> Iterator[tuple[Path, int]]:
    """As git does: the patterns of a folder's .gitignore count from there, and those of inner folders come last."""
    from pathspec import GitIgnoreSpec

    own = root / folder / ".gitignore"
    if own.is_file():
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
        ignored = [*ignored, (folder, GitIgnoreSpec.from_lines(lines))]
    with os.scandir(root / folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            path = folder / entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if _is_ignored(path, is_folder, ignored):
                continue
            if is_folder:
                yield from _walk(root, path, ignored)
            else:
                yield path, entry.stat(follow_symlinks=False).st_size


def _is_ignored(path: Path, is_folder: bool, ignored: Sequence[tuple[Path, GitIgnoreSpec]]) -> bool:
    """The last pattern that fits decides. (Ray lets no inner file take back what an outer one ignores.)"""
    for base, spec in reversed(ignored):
        said = spec.check_file(path.relative_to(base).as_posix() + ("/" if is_folder else "")).include
        if said is not None:
            return said
    return False


def _mib(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB"
