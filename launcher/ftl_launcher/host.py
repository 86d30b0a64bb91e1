"""Facts of this machine that a plan depends on."""

from __future__ import annotations

import os
from pathlib import Path

from ftl_launcher.plan import HostFacts
from ftl_launcher.secret_names import default_plain_names
from ftl_launcher.secret_values import names_in_env_file


def look_at_host() -> HostFacts:
    """Where ftl was called, which accelerators are here, which variables are set."""
    return HostFacts(
        workdir=os.getcwd(),
        num_gpus=detected_gpus(),
        hf_home=_hf_home(),
        user=f"{os.getuid()}:{os.getgid()}",
        environment_names=frozenset(name for name, value in os.environ.items() if value) | names_in_env_file(),
        plain_environment={name: os.environ[name] for name in default_plain_names() if name in os.environ},
    )


def _hf_home() -> str | None:
    folder = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface").expanduser().absolute()
    return str(folder) if folder.is_dir() else None


def detected_gpus() -> int:
    """Accelerators of this machine by their device files, as CUDA_VISIBLE_DEVICES narrows them; 0 without any."""
    found = len(list(Path("/dev").glob("nvidia[0-9]*")))
    if not found and Path("/dev/kfd").exists():
        found = len(list(Path("/dev/dri").glob("renderD*")))
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        if name in os.environ:
            visible = [part for part in os.environ[name].split(",") if part.strip() not in ("", "-1")]
            found = min(found, len(visible))
    return found
