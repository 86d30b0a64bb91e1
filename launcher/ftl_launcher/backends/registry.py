"""Backend name -> module, imported on use. Other packages add theirs by the entry point group ``ftl.backends``."""

from __future__ import annotations

import importlib

from ftl_config.errors import FtlError
from ftl_launcher.backends.protocol import Backend
from ftl_launcher.suggestions import suggest

BACKENDS: dict[str, str] = {
    "docker": "ftl_launcher.backends.docker",
    "dstack": "ftl_launcher.backends.dstack",
    "kuberay": "ftl_launcher.backends.kuberay",
    "local": "ftl_launcher.backends.local",
    "ray": "ftl_launcher.backends.ray",
    "skypilot": "ftl_launcher.backends.skypilot",
}

ENTRY_POINT_GROUP = "ftl.backends"


def load_backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        FtlError: unknown name (with a close match), or its module cannot be imported (the cause is named).
    """
    path = BACKENDS.get(name) or _entry_points().get(name)
    if path is None:
        known = [*BACKENDS, *_entry_points()]
        raise FtlError(f"unknown backend {name!r}", hint=suggest(name, known), exit_code=2)
    try:
        module = importlib.import_module(path)
    except ImportError as error:
        raise FtlError(f"the {name} backend ({path}) cannot be imported: {error}") from error
    backend = module.BACKEND
    if not isinstance(backend, Backend):
        raise FtlError(f"{path}.BACKEND is not a backend: it lacks methods of ftl_launcher.backends.protocol.Backend")
    return backend


def _entry_points() -> dict[str, str]:
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
