"""The docstrings under fields: the text of the reference and of the editors' schema.

Read from source when they are asked for. pydantic could keep them (``use_attribute_docstrings``), but it parses every
section's source at import, which each command would pay for.
"""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise

from ftl_config.schema.types import Section


@cache
def field_docs(section: type[Section]) -> dict[str, str]:
    """Attribute to its docstring."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(section)))  # type: ignore[arg-type]
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == section.__name__)
    docs: dict[str, str] = {}
    for statement, after in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            docs[statement.target.id] = str(text)
    return docs
