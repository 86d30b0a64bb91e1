"""Keep functions and files small: fails on a function over 80 lines or a file over 500, and prints the spread."""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path

MAX_FUNCTION_LINES = 80
MAX_FILE_LINES = 500


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    functions: list[tuple[int, str]] = []
    files: list[tuple[int, str]] = []
    for path in sorted([*root.glob("launcher/**/*.py"), *root.glob("runner/**/*.py")]):
        text = path.read_text()
        name = str(path.relative_to(root))
        files.append((text.count("\n"), name))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append(((node.end_lineno or node.lineno) - node.lineno + 1, f"{name}:{node.name}"))
    too_long = [row for row in functions if row[0] > MAX_FUNCTION_LINES] + [r for r in files if r[0] > MAX_FILE_LINES]
    for lines, name in sorted(too_long, reverse=True):
        print(f"too long: {name} ({lines} lines)")
    lengths = sorted(lines for lines, _ in functions)
    p90 = lengths[int(len(lengths) * 0.9)]
    print(
        f"{len(files)} files, median {statistics.median(n for n, _ in files):.0f} lines, longest {max(files)[0]}; "
        f"{len(lengths)} functions, median {statistics.median(lengths):.0f}, p90 {p90}, longest {lengths[-1]}"
    )
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
