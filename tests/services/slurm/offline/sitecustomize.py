"""SkyPilot's controller of managed jobs looks at no job before 8.8.8.8 or 1.1.1.1 answers: here its own server does.

On the PYTHONPATH of ``sky api start`` only. docs/slurm.md says what users without internet access do.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from types import ModuleType
from typing import Any

MODULE = "sky.backends.backend_utils"


class _Redirect(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            module._TEST_IP_LIST = [os.environ["SKY_TEST_PROBE_URL"]]  # type: ignore[attr-defined]

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Redirect())
