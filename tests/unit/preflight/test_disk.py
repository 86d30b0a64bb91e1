"""Room on disks and in shared memory, against limits that this machine does and does not meet."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ftl_config.load import load_text
from ftl_config.preflight import Outcome
from ftl_runner.preflight.checkpoint_size import kept_bytes
from ftl_runner.preflight.disk import check_disk, check_shared_memory
from tests.unit.preflight.nodes import eight, expect, node, only


def test_a_disk_with_room(tmp_path: Path) -> None:
    finding = only(check_disk(node(expect(tmp_path))))
    assert finding.outcome is Outcome.PASSED
    assert finding.found.endswith(" free")


def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    findings = list(check_disk(node(expect(tmp_path)), min_free_bytes=2 * free))
    assert {finding.outcome for finding in findings} == {Outcome.FAILED}
    assert str(tmp_path) in findings[0].found


def test_checkpoints_that_will_not_fit_are_a_warning(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    finding = next(iter(check_disk(node(expect(tmp_path, checkpoint_bytes=10 * free)))))
    assert finding.outcome is Outcome.WARNING
    assert "save_total_limit" in finding.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert only(check_disk(node(expect(tmp_path)))).outcome is Outcome.FAILED


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("not a folder")
    finding = only(check_disk(node(expect(tmp_path))))
    assert finding.outcome is Outcome.FAILED
    assert "cannot be written" in finding.found


@pytest.mark.parametrize(
    ("workers", "asked", "loaders", "outcome"),
    [
        (8, ("H100:8",), 0, Outcome.FAILED),
        (1, (), 4, Outcome.WARNING),
        (1, ("H100:1",), 0, Outcome.PASSED),
        (2, (), 0, Outcome.PASSED),
    ],
)
def test_too_little_shared_memory(
    workers: int, asked: tuple[str, ...], loaders: int, outcome: Outcome, tmp_path: Path
) -> None:
    wanted = expect(workers_per_node=workers, accelerators=asked, loader_processes=loaders)
    finding = only(check_shared_memory(node(wanted, gpus=eight()), tmp_path, min_bytes=10**18))
    assert finding.outcome is outcome, finding
    assert only(check_shared_memory(node(wanted), tmp_path, min_bytes=1)).outcome is Outcome.PASSED


def test_a_system_without_shared_memory_is_not_asked(tmp_path: Path) -> None:
    assert list(check_shared_memory(node(), tmp_path / "shm")) == []


def test_what_a_full_fine_tune_keeps(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"0" * 100)
    flags = [f"--base-model={tmp_path}", "--save-total-limit=2"]
    assert kept_bytes(load_text("{}", flags, partial=True).config) == 100 * (5 * 3 + 1)
    assert kept_bytes(load_text("{}", [*flags, "--save-only-model"], partial=True).config) == 100 * (3 + 1)
    assert kept_bytes(load_text("{}", [*flags, "--adapter=lora"], partial=True).config) == 0
    assert kept_bytes(load_text("{}", ["--base-model=org/model"], partial=True).config) == 0
