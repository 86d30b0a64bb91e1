"""KubeRay's own schema of a RayJob as JSON Schema, for tests: ``python scripts/kuberay_schema.py CRD_FILE COMMIT``.

CRD_FILE is ``ray-operator/config/crd/bases/ray.io_rayjobs.yaml`` of https://github.com/ray-project/kuberay (Apache-2.0)
at that commit: 1.4 MB, most of which says the same three times. Here descriptions are left out and what occurs more
than once is written once. Nothing else is, and a field that the CRD does not have is an error, as `kubectl create`
makes it one.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

TARGET = Path(__file__).resolve().parents[1] / "tests/unit/launcher/kuberay_rayjob.schema.json"
SOURCE = "https://github.com/ray-project/kuberay, ray-operator/config/crd/bases/ray.io_rayjobs.yaml, commit {commit}"
LICENCE = "Copyright the KubeRay authors, Apache-2.0. Changed by scripts/kuberay_schema.py"
DROPPED = ("x-kubernetes-", "default", "format")
"""Extensions and annotations that say nothing about what is valid, or nothing that JSON Schema can check."""


def main() -> None:
    path, commit = sys.argv[1:]
    crd = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    version = next(version for version in crd["spec"]["versions"] if version["name"] == "v1")
    schema = strict(version["schema"]["openAPIV3Schema"])
    notes = {"$comment": f"{SOURCE.format(commit=commit)}. {LICENCE}"}
    TARGET.write_text(json.dumps({**notes, **shared(schema)}, separators=(",", ":"), sort_keys=True) + "\n")


def strict(schema: Any) -> Any:
    """Without descriptions, and closed to fields that it does not name."""
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            found[key] = {name: strict(inner) for name, inner in value.items()}
        elif key in ("items", "additionalProperties"):
            found[key] = strict(value)
        elif key in ("anyOf", "oneOf", "allOf"):
            found[key] = [strict(inner) for inner in value]
        elif key != "description" and not key.startswith(DROPPED):
            found[key] = value
    if schema.get("x-kubernetes-embedded-resource") or schema.get("x-kubernetes-preserve-unknown-fields"):
        return found
    if "properties" in found:
        found["additionalProperties"] = False
    return found


def shared(schema: dict[str, Any]) -> dict[str, Any]:
    """Objects that occur more than once become definitions."""
    counts: Counter[str] = Counter()

    def count(node: Any) -> None:
        if isinstance(node, dict):
            if "properties" in node:
                counts[json.dumps(node, sort_keys=True)] += 1
            for value in node.values():
                count(value)
        elif isinstance(node, list):
            for value in node:
                count(value)

    count(schema)
    names = {text: f"d{index}" for index, text in enumerate(text for text, times in counts.items() if times > 1)}

    def refer(node: Any, *, inside: bool = False) -> Any:
        if isinstance(node, list):
            return [refer(value) for value in node]
        if not isinstance(node, dict):
            return node
        text = json.dumps(node, sort_keys=True)
        if not inside and text in names:
            return {"$ref": f"#/$defs/{names[text]}"}
        return {key: refer(value) for key, value in node.items()}

    definitions = {name: refer(json.loads(text), inside=True) for text, name in names.items()}
    return {**refer(schema), "$defs": definitions}


if __name__ == "__main__":
    main()
