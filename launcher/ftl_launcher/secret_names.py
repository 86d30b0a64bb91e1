"""Names of environment variables that travel to a run without being listed in the config."""

from __future__ import annotations


def default_secret_names() -> tuple[str, ...]:
    """Credentials of the stores, hubs and trackers that a run talks to; passed on where they are set."""
    return (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "WANDB_API_KEY",
        "MLFLOW_TRACKING_TOKEN",
        "COMET_API_KEY",
    )


def default_plain_names() -> tuple[str, ...]:
    """Settings that belong to those credentials and are no secret themselves."""
    return (
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "WANDB_BASE_URL",
        "WANDB_MODE",
        "MLFLOW_TRACKING_URI",
    )
