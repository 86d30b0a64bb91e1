"""Where a run is started, and what must not be written down for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from ftl_config.rules.registry import Finding, Rule, error, warning
from ftl_config.schema.config import Config

COMPLETENESS = False

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL)", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"(hf_|sk-|ghp_|AKIA|xox[bp]-)[A-Za-z0-9-]{8,}")
_NOT_SECRET = re.compile(r"(_FILE|_PATH|TOKENIZERS?_\w*|\w*_TOKENS?_(LIMIT|COUNT))\Z", re.IGNORECASE)
_REGISTRY_LOGIN = ("SKYPILOT_DOCKER_USERNAME", "SKYPILOT_DOCKER_PASSWORD", "SKYPILOT_DOCKER_SERVER")
_MOUNTED_BY_PATH = ("cos", "hf", "https")
"""Kinds of addresses in which the bucket is a part of the path."""
_ACCELERATOR = re.compile(r"[A-Za-z0-9][\w.-]*(:\d+(\.\d+)?)?\Z")


def environment_holds_no_secrets(config: Config) -> Iterator[Finding]:
    """What stands in launch.env is written to rendered files and records."""
    for name, value in (config.launch.env or {}).items():
        path = ("launch", "env", name)
        if not _ENV_NAME.match(name):
            yield error(f"{name!r} cannot be the name of an environment variable", path)
        elif (_SECRET_NAME.search(name) and not _NOT_SECRET.search(name)) or _SECRET_VALUE.match(value):
            hint = f"set {name} in your shell and write launch: {{secrets: [{name}]}}"
            yield error("looks like a secret, and the config is written to files", path, hint=hint)


def secrets_are_names(config: Config) -> Iterator[Finding]:
    """A secret's value has no place in a config."""
    for index, name in enumerate(config.launch.secrets or ()):
        path = ("launch", "secrets", index)
        if "=" in name or _SECRET_VALUE.match(name) or not _ENV_NAME.match(name):
            hint = "write HF_TOKEN, and set its value in your shell"
            yield error("has to be the name of an environment variable, not a value", path, hint=hint)
        elif name in (config.launch.env or {}):
            yield error(f"{name} stands in launch.env too", path, ("launch", "env", name))


def addresses_hold_no_credentials(config: Config) -> Iterator[Finding]:
    """``s3://key:secret@bucket`` would be stored with the run."""
    addresses = {
        ("checkpoint",): config.checkpointing.checkpoint,
        ("launch", "checkpoint_bucket"): config.launch.checkpoint_bucket,
        ("launch", "ray_address"): config.launch.ray_address,
    }
    for path, address in addresses.items():
        if address is not None and re.match(r"[a-z0-9+]+://[^/@]*:[^/@]*@", address):
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
            yield error("holds credentials", path, hint=hint)


def accelerators_are_well_formed(config: Config) -> Iterator[Finding]:
    """``H100:8``."""
    value = config.launch.accelerators
    names = [value] if isinstance(value, str) else list(value or ())
    for name in names:
        if not _ACCELERATOR.match(name):
            message = f"{name!r} is not a GPU with a number"
            yield error(message, ("launch", "accelerators"), hint="H100:8, or {H100: 8}")


def sizes_are_well_formed(config: Config) -> Iterator[Finding]:
    """``8`` or ``8+``."""
    for key in ("cpus", "memory"):
        value = getattr(config.launch, key)
        text = str(value) if value is not None else "1"
        if not re.match(r"\d+(\.\d+)?\+?\Z", text) or float(text.rstrip("+")) <= 0:
            yield error(f"{value!r} is not a size", ("launch", key), hint="8, or 8+ for at least 8")


def zone_needs_region(config: Config) -> Iterator[Finding]:
    """A zone is a part of a region."""
    if config.launch.zone and not config.launch.region:
        yield error("needs launch.region", ("launch", "zone"))


def spot_needs_checkpoints(config: Config) -> Iterator[Finding]:
    """A machine that is taken away takes its disk along."""
    if not config.launch.spot or config.launch.checkpoint_bucket or config.checkpointing.checkpoint:
        return
    message = "without a checkpoint bucket, what was trained is lost with the machine"
    yield warning(message, ("launch", "spot"), hint="set checkpoint: s3://... or launch.checkpoint_bucket")


def only_whole_buckets_are_mounted(config: Config) -> Iterator[Finding]:
    """SkyPilot would only say so once the machines are there."""
    for mount_path in config.launch.mount_modes:
        path = ("launch", "file_mounts", mount_path, "source")
        address = urlsplit(config.launch.mount_sources[mount_path])
        if address.scheme in ("", "pvc"):
            yield error("only a bucket can be mounted", path, hint="source: s3://my-bucket, or mode: copy")
        elif address.scheme not in _MOUNTED_BY_PATH and address.path.strip("/"):
            hint = f"source: {address.scheme}://{address.netloc}, and look for the folder in it; or mode: copy"
            yield error("only a whole bucket can be mounted", path, hint=hint)


def registry_credentials_are_complete(config: Config) -> Iterator[Finding]:
    """SkyPilot logs in to a private registry with all three of them, as secrets."""
    listed = config.launch.secrets or ()
    for name in _REGISTRY_LOGIN:
        if name in (config.launch.env or {}):
            hint = f"list {', '.join(_REGISTRY_LOGIN)} in launch.secrets, and set them in your shell"
            yield error("belongs to the registry's login, which is secret", ("launch", "env", name), hint=hint)
    missing = [name for name in _REGISTRY_LOGIN if name not in listed]
    if missing and len(missing) < len(_REGISTRY_LOGIN):
        message = f"the registry's login lacks {' and '.join(missing)}"
        yield error(message, ("launch", "secrets"), hint=f"list {', '.join(_REGISTRY_LOGIN)}")


RULES: list[Rule] = [
    environment_holds_no_secrets,
    secrets_are_names,
    addresses_hold_no_credentials,
    accelerators_are_well_formed,
    sizes_are_well_formed,
    zone_needs_region,
    spot_needs_checkpoints,
    only_whole_buckets_are_mounted,
    registry_credentials_are_complete,
]
