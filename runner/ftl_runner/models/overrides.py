"""``model_config``: values of the base model's own configuration, changed before the model is made of it.

Rotary positions need care: transformers 5 keeps all of their settings in one mapping, ``rope_parameters`` (for some
models one a kind of layer), and reads ``rope_theta`` and ``rope_scaling``, as configurations have them, at
construction only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ftl_runner.failures import first_line
from ftl_runner.models.errors import ModelError

logger = logging.getLogger(__name__)

_KEPT = ("rope_theta", "partial_rotary_factor")
"""What a new way of scaling leaves as it was."""
_SCALED_LAYERS = "full_attention"
"""Of layers with settings of their own, those that look far back."""
_FROM_LENGTH = ("yarn", "llama3", "longrope")


def override(model_config: Any, overrides: Mapping[str, Any]) -> None:
    """Change a configuration in place.

    Raises:
        ModelError: rotary positions cannot be made of what ``rope_scaling`` says.
    """
    trained_length = getattr(model_config, "max_position_embeddings", None)
    for key, value in overrides.items():
        if key in ("rope_scaling", "rope_theta") and getattr(model_config, "rope_parameters", None) is not None:
            _change_rope(model_config, key, value, trained_length)
            continue
        if not hasattr(model_config, key):
            logger.warning("model_config.%s: %s has no such setting", key, type(model_config).__name__)
        setattr(model_config, key, value)


def _change_rope(model_config: Any, key: str, value: Any, trained_length: int | None) -> None:
    settings = {name: dict(part) if isinstance(part, dict) else part for name, part in _rope(model_config).items()}
    layered = isinstance(settings.get(_SCALED_LAYERS), dict)
    if key == "rope_scaling" and isinstance(value, Mapping) and layered and set(value) & set(settings):
        settings |= {name: dict(part) for name, part in value.items()}  # given by kind of layer
    elif layered:
        settings[_SCALED_LAYERS] = _changed(settings[_SCALED_LAYERS], key, value, trained_length)
    else:
        settings = _changed(settings, key, value, trained_length)
    model_config.rope_parameters = settings
    _check_rope(model_config, settings[_SCALED_LAYERS] if layered else settings)


def _changed(settings: dict[str, Any], key: str, value: Any, trained_length: int | None) -> dict[str, Any]:
    """The settings of one kind of layer with another base, or with another way of scaling."""
    if key == "rope_theta":
        return settings | {"rope_theta": value}
    if value is not None and not isinstance(value, Mapping):
        raise ModelError(
            "model_config.rope_scaling: expected a mapping", "rope_scaling: {type: linear, factor: 2.0}", 2
        )
    given = dict(value or {})
    kind = given.pop("type", None)
    kept = {name: settings[name] for name in _KEPT if name in settings}
    scaled: dict[str, Any] = {"rope_type": kind or "default", **kept, **given}
    if scaled["rope_type"] in _FROM_LENGTH and trained_length is not None:
        scaled.setdefault("original_max_position_embeddings", trained_length)
    return scaled


def _check_rope(model_config: Any, settings: Mapping[str, Any]) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    known = sorted({"default", *ROPE_INIT_FUNCTIONS})
    if settings["rope_type"] not in known:
        message = f"model_config.rope_scaling: unknown type {settings['rope_type']!r}"
        raise ModelError(message, f"known are {', '.join(known)}", 2)
    try:
        model_config.validate_rope()
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"model_config.rope_scaling: {first_line(error)}", exit_code=2) from error


def _rope(model_config: Any) -> dict[str, Any]:
    return dict(model_config.rope_parameters)
