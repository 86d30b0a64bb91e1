"""Rules between keys: named pure functions ``(config) -> findings``, each in the module of its topic.

A rule is a function in a topic module's ``RULES`` list; it sees the typed config and says which keys a finding is
about. Where they stand in the file is looked up for it.
"""

from ftl_config.rules import (
    adapters,
    complete,
    compute,
    data,
    launch,
    layers,
    names,
    preference,
    preference_losses,
    rewards,
    schedule,
    sharding,
)
from ftl_config.rules.registry import Finding, check_rules

TOPICS = (
    complete,
    names,
    adapters,
    layers,
    data,
    schedule,
    compute,
    sharding,
    preference,
    preference_losses,
    rewards,
    launch,
)

__all__ = ["TOPICS", "Finding", "check_rules"]
