"""Upload to the Hugging Face hub: the ``hub_*`` keys as arguments of transformers' Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError

if TYPE_CHECKING:
    from ftl_config import Config

# The hub leaves out what a .gitignore in the upload names: bookkeeping that is of no use beside the model.
_NOT_UPLOADED = ".ray/\nattempts/\nevents.jsonl\n"


def hub_arguments(config: Config) -> dict[str, Any]:
    """Arguments for ``TrainingArguments``; empty without ``hub_model_id``. The repository is made, as a private one.

    Raises:
        FtlError: there is no token to upload with.
    """
    keys = config.checkpointing
    if keys.hub_model_id is None:
        return {}
    from huggingface_hub import get_token

    if get_token() is None:
        raise FtlError(
            f"hub_model_id: there is no token to upload to {keys.hub_model_id} with",
            "set HF_TOKEN in the environment, and name it in launch.secrets",
            exit_code=2,
        )
    output_dir = Path(keys.output_dir).expanduser()
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / ".gitignore").write_text(_NOT_UPLOADED)
    return {
        "push_to_hub": True,
        "hub_model_id": keys.hub_model_id,
        "hub_strategy": keys.hub_strategy or "every_save",
        "hub_revision": keys.hub_revision,
        "hub_private_repo": True,
        "hub_always_push": True,
    }
