"""Run every family with every feature, and write ``docs/model-families.md``: `python -m tests.families`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import transformers

from tests.families.architectures import FAMILIES
from tests.families.table import PAGE, write_page
from tests.families.trial import run_family, tiny_threads

transformers.utils.logging.disable_progress_bar()
results = {}
with tempfile.TemporaryDirectory() as scratch, tiny_threads():
    for number, family in enumerate(FAMILIES):
        results[family.name] = run_family(family, Path(scratch) / str(number))
        print(family.name, *(cell.state for cell in results[family.name].values()))
write_page(results)
print(f"wrote {PAGE}")
