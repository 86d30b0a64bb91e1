"""Which layers a full fine-tune trains: Spectrum and LISA."""

from __future__ import annotations

from collections.abc import Iterator

from ftl_config.axolotl import SPECTRUM_PLUGIN
from ftl_config.keys import is_set
from ftl_config.rules.registry import Finding, Rule, error, warning
from ftl_config.schema.config import Config

COMPLETENESS = False


def spectrum_chooses_alone(config: Config) -> Iterator[Finding]:
    """Spectrum says what is trained; an adapter, or a list of parameters, says otherwise."""
    if SPECTRUM_PLUGIN not in (config.training.plugins or ()):
        for key in ("spectrum_top_fraction", "spectrum_model_name"):
            if is_set(config, key):
                yield warning("has no effect without the Spectrum plugin", key, hint=f"plugins: [{SPECTRUM_PLUGIN}]")
        return
    if config.adapter.adapter:
        yield error("Spectrum cannot be combined with an adapter", "plugins", "adapter")
    for key in ("unfrozen_parameters", "lisa_n_layers"):
        if is_set(config, key):
            yield error("cannot be combined with the Spectrum plugin", key, "plugins")


def lisa_switches_layers(config: Config) -> Iterator[Finding]:
    """LISA freezes and frees whole layers of one device's copy of the model."""
    keys = config.adapter
    if keys.lisa_n_layers is None:
        if keys.lisa_step_interval is not None:
            yield warning("has no effect without lisa_n_layers", "lisa_step_interval", "lisa_n_layers")
        return
    if keys.lisa_step_interval is None:
        yield error("needs lisa_step_interval", "lisa_n_layers", "lisa_step_interval")
    if keys.adapter:
        yield error("cannot be combined with an adapter", "lisa_n_layers", "adapter")
    if config.training.unfrozen_parameters:
        yield error("cannot be combined with unfrozen_parameters", "lisa_n_layers", "unfrozen_parameters")
    for key in ("deepspeed", "fsdp", "fsdp_config"):
        if getattr(config.distributed, key):
            yield error(f"cannot be combined with {key}", "lisa_n_layers", key)


RULES: list[Rule] = [spectrum_chooses_alone, lisa_switches_layers]
