"""Looking before leaping: what would fail on the machines is said here, before anything starts or costs.

Each check is a function from the config to problems that name the key and its line, as the config's own checks do.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ftl_config.deepspeed import missing_hint, shipped_name
from ftl_config.errors import ConfigError, Problem
from ftl_config.model_files import TOKENIZER_FILES
from ftl_config.optimizers import optimizer_package

if TYPE_CHECKING:
    from ftl_config import DatasetSpec, LoadedConfig

DATASET_KEYS = ("datasets", "test_datasets", "pretraining_dataset")
"""Keys that hold dataset entries."""

_DATA_SUFFIXES = frozenset({".json", ".jsonl", ".csv", ".parquet", ".arrow", ".txt", ".tsv", ".gz", ".zst"})
_MODEL_FILES = ("config.json",)


def check_inputs(loaded: LoadedConfig, root: Path, *, runs_here: bool) -> None:
    """Every local file that the config names, and the folder it writes to.

    Args:
        loaded: the config.
        root: folder that relative paths start from.
        runs_here: training happens on this machine, so the output folder is here as well.

    Raises:
        ConfigError: with all problems found.
    """
    problems = [*_dataset_problems(loaded, root), *_model_problems(loaded, root), *_deepspeed_problems(loaded, root)]
    if runs_here:
        problems += [*_output_problems(loaded, root), *_package_problems(loaded), *_code_problems(loaded, root)]
    if problems:
        raise ConfigError(problems)


def check_remote_inputs(loaded: LoadedConfig, workdir: Path | None) -> None:
    """Files that the config names by a relative path, for a run on other machines: they must travel with it.

    Absolute paths are taken to mean the other machine's files.

    Args:
        loaded: the config.
        workdir: the folder that is uploaded, or None.

    Raises:
        ConfigError: with every path that will not be there.
    """
    problems = []
    hint: str | None
    for key, path in _relative_paths(loaded):
        if workdir is None:
            hint = "set launch.workdir: . to send this folder along, or use a hub name, a URL or an absolute path"
            problems.append(_problem(loaded, key, f"{path} is on this machine, and the run will not be", hint))
        elif not (workdir / path).exists():
            hint = _close_file(workdir / path)
            problems.append(_problem(loaded, key, f"{path} is not in launch.workdir ({workdir})", hint))
    if problems:
        raise ConfigError(problems)


def _relative_paths(loaded: LoadedConfig) -> Iterator[tuple[str, str]]:
    """Key and path of everything that is read from the folder that a run starts in."""
    data, model, adapter = loaded.config.data, loaded.config.model, loaded.config.adapter
    named: list[tuple[str, str | None]]
    named = [
        (f"{key}[{index}].path", spec.path)
        for key in DATASET_KEYS
        for index, spec in enumerate(getattr(data, key) or ())
    ]
    named += [("base_model", model.base_model), ("lora_model_dir", adapter.lora_model_dir)]
    deepspeed = loaded.config.distributed.deepspeed
    if isinstance(deepspeed, str) and shipped_name(deepspeed) is None:
        named.append(("deepspeed", deepspeed))
    code = [(key, _file_of(name)) for key, name in _functions(loaded) if Path(_file_of(name)).is_file()]
    for key, path in (*named, *code):
        is_file = bool(path) and (looks_local(path or "") or key == "deepspeed" or (key, path) in code)
        if path and is_file and not Path(path).expanduser().is_absolute():
            yield key, path


def looks_local(path: str) -> bool:
    """Whether a path means a file or folder rather than a hub name or a URL."""
    if "://" in path:
        return False
    return path.startswith((".", "/", "~")) or Path(path).suffix.lower() in _DATA_SUFFIXES


def _dataset_problems(loaded: LoadedConfig, root: Path) -> Iterator[Problem]:
    for key in DATASET_KEYS:
        specs: tuple[DatasetSpec, ...] = getattr(loaded.config.data, key) or ()
        for index, spec in enumerate(specs):
            if spec.path and looks_local(spec.path):
                yield from _one_dataset(loaded, f"{key}[{index}]", spec, root)


def _one_dataset(loaded: LoadedConfig, key: str, spec: DatasetSpec, root: Path) -> Iterator[Problem]:
    path = _resolve(root, spec.path or "")
    if not path.exists():
        hint = _close_file(path) or "paths are relative to the folder that ftl is called in"
        yield _problem(loaded, f"{key}.path", f"no such file or folder: {spec.path}", hint)
        return
    if path.is_file() and path.stat().st_size == 0:
        yield _problem(loaded, f"{key}.path", f"{spec.path} is empty", "every dataset needs at least one row")
    if not os.access(path, os.R_OK):
        yield _problem(loaded, f"{key}.path", f"{spec.path} cannot be read", "check its permissions")
    files = (spec.data_files,) if isinstance(spec.data_files, str) else spec.data_files or ()
    for name in files:
        if path.is_dir() and "://" not in name and "*" not in name and not (path / name).exists():
            yield _problem(loaded, f"{key}.data_files", f"no such file: {path / name}", _close_file(path / name))


def _model_problems(loaded: LoadedConfig, root: Path) -> Iterator[Problem]:
    model = loaded.config.model
    name = model.base_model
    if name and (looks_local(name) or _resolve(root, name).is_dir()):
        yield from _model_folder(loaded, name, _resolve(root, name))
    adapter = loaded.config.adapter.lora_model_dir
    if adapter and looks_local(adapter) and not _resolve(root, adapter).exists():
        yield _problem(loaded, "lora_model_dir", f"no such folder: {adapter}", _close_file(_resolve(root, adapter)))


def _model_folder(loaded: LoadedConfig, name: str, path: Path) -> Iterator[Problem]:
    """A model folder needs a config and a tokenizer; a GGUF file carries both."""
    model = loaded.config.model
    if path.suffix == ".gguf" and path.is_file():
        return
    if not path.is_dir():
        hint = _close_file(path) or "give a folder with config.json, or a hub name such as org/model"
        yield _problem(loaded, "base_model", f"no such folder: {name}", hint)
        return
    if any(path.glob("*.gguf")):
        return
    if not model.base_model_config and not any((path / file).exists() for file in _MODEL_FILES):
        yield _problem(loaded, "base_model", f"{name} has no config.json", "is it the folder of a saved model?")
        return
    if not model.tokenizer_config and not any((path / file).exists() for file in TOKENIZER_FILES):
        hint = "save the tokenizer beside the model, or name one with tokenizer_config: org/model"
        yield _problem(loaded, "base_model", f"{name} has no tokenizer (no {', '.join(TOKENIZER_FILES[:3])})", hint)


def _deepspeed_problems(loaded: LoadedConfig, root: Path) -> Iterator[Problem]:
    value = loaded.config.distributed.deepspeed
    if not isinstance(value, str) or _resolve(root, value).is_file():
        return
    if shipped_name(value) is None:
        hint = _close_file(_resolve(root, value)) or missing_hint(value)
        yield _problem(loaded, "deepspeed", f"no such DeepSpeed configuration: {value}", hint)


def _output_problems(loaded: LoadedConfig, root: Path) -> Iterator[Problem]:
    value = loaded.config.checkpointing.output_dir
    if "://" in value:
        return
    path = _resolve(root, value)
    while not path.exists():
        path = path.parent
    if not path.is_dir():
        yield _problem(loaded, "output_dir", f"{path} is a file", "give a folder")
    elif not os.access(path, os.W_OK | os.X_OK):
        yield _problem(loaded, "output_dir", f"{path} cannot be written to", "choose another folder")


def _package_problems(loaded: LoadedConfig) -> Iterator[Problem]:
    """The runner starts with this Python, so what it cannot import is known here."""
    name = loaded.config.training.optimizer
    package = optimizer_package(name)
    if package is not None and importlib.util.find_spec(package[0]) is None:  # looks for the file, imports nothing
        yield _problem(loaded, "optimizer", f"{name} needs the package {package[1]}", f"pip install {package[1]}")
    preference = loaded.config.preference
    key = "rl" if preference.rl else "reward_model" if preference.reward_model else None
    if key is not None and importlib.util.find_spec("trl") is None:
        yield _problem(loaded, key, "needs the package trl", "pip install 'ftl-tune[preference]'")


def _functions(loaded: LoadedConfig) -> Iterator[tuple[str, str]]:
    """Key and dotted path of the user's functions that training calls; a name with a slash is a reward model."""
    trl = loaded.config.preference.trl
    if trl is None or loaded.config.preference.rl not in ("grpo", "gdpo"):
        return
    for index, name in enumerate(trl.reward_funcs or ()):
        if "/" not in name:
            yield f"trl.reward_funcs[{index}]", name
    if trl.rollout_func:
        yield "trl.rollout_func", trl.rollout_func


def _file_of(function: str) -> str:
    """``a/b.py`` for ``a.b.c``."""
    return f"{function.rpartition('.')[0].replace('.', '/')}.py"


def _code_problems(loaded: LoadedConfig, root: Path) -> Iterator[Problem]:
    """A function's module is a file in the folder that the run starts in, or installed; nothing is imported."""
    for key, name in _functions(loaded):
        file, package = root / _file_of(name), name.split(".")[0]
        if file.is_file() or (file.with_suffix("") / "__init__.py").is_file():
            continue
        if (root / package).is_dir() or importlib.util.find_spec(package) is None:
            hint = _close_file(file) or "modules are looked for in the folder that ftl is called in"
            yield _problem(loaded, key, f"no such file: {_file_of(name)} (the function {name} is to be in it)", hint)


def _problem(loaded: LoadedConfig, key: str, message: str, hint: str | None) -> Problem:
    origin = loaded.entry_origins.get(key) or loaded.origins.get(key.split("[")[0].split(".")[0])
    if origin is None or origin.kind == "default":
        return Problem("error", key, message, hint)
    return Problem("error", key, message, hint, origin.source, origin.line, origin.column)


def _resolve(root: Path, path: str) -> Path:
    return root / Path(path).expanduser()


def _close_file(path: Path) -> str | None:
    """``did you mean ...?`` from the names beside a missing one."""
    import difflib

    if not path.parent.is_dir():
        return None
    close = difflib.get_close_matches(path.name, os.listdir(path.parent), n=1)
    return f"did you mean {path.parent / close[0]}?" if close else None
