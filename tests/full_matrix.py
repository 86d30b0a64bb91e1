"""Tests that take minutes: FTL_FULL_MATRIX=1 runs them."""

from __future__ import annotations

import os

import pytest

FULL_MATRIX = bool(os.environ.get("FTL_FULL_MATRIX"))
full_matrix = pytest.mark.skipif(not FULL_MATRIX, reason="FTL_FULL_MATRIX=1 runs it")
