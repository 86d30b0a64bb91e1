"""Rewrites old spellings into the ones the schema knows, each with a word about it."""

from __future__ import annotations

from ftl_config.axolotl import LEGACY_ATTENTION, RENAMED
from ftl_config.nodes import Mapping, Node, Origin, Path, Scalar, from_value, is_null, to_value
from ftl_config.report import Report


def rewrite(root: Mapping, report: Report) -> None:
    """Bring a config's tree, in place, to the spelling of today."""
    _rename_keys(root, report)
    for entries in ("datasets", "test_datasets", "pretraining_dataset"):
        _rewrite_datasets(root, entries, report)
    _rewrite_attention(root, report)
    _rewrite_xformers(root, report)
    _rewrite_checkpointing(root, report)
    _rewrite_garbage_collection(root, report)
    _rewrite_rope_scaling(root, report)
    _rewrite_fsdp(root, report)
    if _take_truthy(root, "flash_attn_d512"):
        _put(root, "large_head_attention", "auto", root.origin)


def _rename_keys(root: Mapping, report: Report) -> None:
    for old, new in RENAMED.items():
        if "." not in old:
            _rename(root, (), old, new, report)


def _rename(parent: Mapping, path: Path, old: str, new: str, report: Report) -> None:
    if old not in parent.nodes:
        return
    if is_null(parent.nodes[old]):
        _take(parent, old)
        return
    if new in parent.nodes and not is_null(parent.nodes[new]):
        report.error((*path, old), f"is the old spelling of `{new}`, and both are set", f"keep `{new}`")
        _take(parent, old)
        return
    report.warn((*path, old), f"is the old spelling of `{new}`")
    origin = parent.origins[old]
    parent.nodes[new], parent.origins[new] = _take(parent, old), origin


def _rewrite_datasets(root: Mapping, key: str, report: Report) -> None:
    node = root.nodes.get(key)
    if node is None:
        return
    if isinstance(node, Mapping):
        report.warn((key,), "is a single entry; it is read as a list of one", "start its first line with `- `")
        node = root.nodes[key] = from_list([node], root.origins[key])
    for index, entry in enumerate(getattr(node, "nodes", ())):
        if isinstance(entry, Mapping):
            path = (key, index)
            _rename(entry, path, "train_on_split", "split", report)
            _rewrite_message_fields(entry, path, report)


def _rewrite_message_fields(entry: Mapping, path: Path, report: Report) -> None:
    """``message_field_role: from`` becomes ``message_property_mappings: {role: from}``."""
    for old in [key for key in ("message_field_role", "message_field_content") if key in entry.nodes]:
        origin = entry.origins[old]
        value = to_value(_take(entry, old))
        if value is None:
            continue
        new = old.removeprefix("message_field_")
        report.warn((*path, old), f"is the old spelling of message_property_mappings.{new}", origin=origin)
        mappings = _child(entry, "message_property_mappings", origin)
        given = mappings.nodes.get(new)
        if given is not None and to_value(given) != value:
            report.error((*path, old), f"disagrees with message_property_mappings.{new}", origin=origin)
        _put(mappings, new, value, origin)


def _rewrite_attention(root: Mapping, report: Report) -> None:
    """The old switches become ``attn_implementation``; of several, the most particular one counts."""
    chosen: str | None = None
    for flag, name in LEGACY_ATTENTION.items():
        if flag not in root.nodes:
            continue
        origin = root.origins[flag]
        value = to_value(_take(root, flag))
        if value in (None, False):
            continue
        if not isinstance(value, bool):
            report.error((flag,), "expected true or false", f"write `attn_implementation: {name}`", origin=origin)
        elif chosen is not None:
            report.warn((flag,), f"has no effect beside the attention chosen already, {chosen}", origin=origin)
        elif _is_given(root, "attn_implementation"):
            message = "is the old spelling of `attn_implementation`, and both are set"
            report.error((flag,), message, f"keep one of them: leave `{flag}` out", origin=origin)
        else:
            chosen = name
            report.warn((flag,), f"is the old spelling of `attn_implementation: {name}`", origin=origin)
            _put(root, "attn_implementation", name, origin)


def _rewrite_xformers(root: Mapping, report: Report) -> None:
    """xformers has no place in transformers any more; sdpa computes the same."""
    node = root.nodes.get("attn_implementation")
    if isinstance(node, Scalar) and node.text == "xformers":
        report.warn(("attn_implementation",), "xformers is gone from transformers; sdpa takes its place")
        _put(root, "attn_implementation", "sdpa", root.origins["attn_implementation"])


def _rewrite_checkpointing(root: Mapping, report: Report) -> None:
    """``gradient_checkpointing: offload`` was two wishes in one key."""
    node = root.nodes.get("gradient_checkpointing")
    word = node.text if isinstance(node, Scalar) else None
    if word not in ("offload", "offload_disk"):
        return
    offloading = True if word == "offload" else "disk"
    origin = root.origins["gradient_checkpointing"]
    shown = "true" if offloading is True else "disk"
    report.warn(
        ("gradient_checkpointing",),
        f"`{word}` is the old spelling of `gradient_checkpointing: true` with `activation_offloading: {shown}`",
    )
    _put(root, "gradient_checkpointing", True, origin)
    if not _is_given(root, "activation_offloading"):
        _put(root, "activation_offloading", offloading, origin)


def _rewrite_garbage_collection(root: Mapping, report: Report) -> None:
    if "gc_steps" not in root.nodes:
        return
    origin = root.origins["gc_steps"]
    steps = to_value(_take(root, "gc_steps"))
    if steps is None:
        return
    report.warn(("gc_steps",), "is the old spelling of `gc_collect_steps` and `torch_empty_cache_steps`", origin=origin)
    if isinstance(steps, int) and steps > 0 and not _is_given(root, "torch_empty_cache_steps"):
        _put(root, "torch_empty_cache_steps", steps, origin)
    if not _is_given(root, "gc_collect_steps"):
        _put(root, "gc_collect_steps", steps, origin)


def _rewrite_rope_scaling(root: Mapping, report: Report) -> None:
    if "rope_scaling" not in root.nodes:
        return
    origin = root.origins["rope_scaling"]
    node = _take(root, "rope_scaling")
    if is_null(node):
        return
    report.warn(("rope_scaling",), "is the old place of `model_config.rope_scaling`", origin=origin)
    overrides = _child(root, "model_config", origin)
    if "rope_scaling" in overrides.nodes:
        report.error(("rope_scaling",), "stands in model_config too", "keep that one", origin=origin)
        return
    overrides.nodes["rope_scaling"], overrides.origins["rope_scaling"] = node, origin


def _rewrite_fsdp(root: Mapping, report: Report) -> None:
    config = root.nodes.get("fsdp_config")
    if isinstance(config, Mapping):
        _strip_fsdp_prefix(config, report)
        for key in ("fsdp_version", "version"):
            if key in config.nodes:
                origin = config.origins[key]
                version = to_value(_take(config, key))
                if not _is_given(root, "fsdp_version"):
                    _put(root, "fsdp_version", version, origin)
    if "fsdp_final_state_dict_type" in root.nodes:
        origin = root.origins["fsdp_final_state_dict_type"]
        node = _take(root, "fsdp_final_state_dict_type")
        if not is_null(node):
            report.warn(
                ("fsdp_final_state_dict_type",), "is the old place of fsdp_config.final_state_dict_type", origin=origin
            )
            _put(_child(root, "fsdp_config", origin), "final_state_dict_type", to_value(node), origin)
    uses_fsdp = bool(to_value(root.nodes["fsdp"])) if "fsdp" in root.nodes else False
    if uses_fsdp or (isinstance(config, Mapping) and config.nodes):
        _move_to_fsdp2(root, report, config if isinstance(config, Mapping) else None)


def _strip_fsdp_prefix(config: Mapping, report: Report) -> None:
    for key in [key for key in config.nodes if str(key).startswith("fsdp_") and key != "fsdp_version"]:
        plain = str(key).removeprefix("fsdp_")
        if plain in config.nodes:
            report.error(("fsdp_config", key), f"is the old spelling of `{plain}`, and both are set")
            _take(config, key)
            continue
        origin = config.origins[key]
        config.nodes[plain], config.origins[plain] = _take(config, key), origin


def _move_to_fsdp2(root: Mapping, report: Report, config: Mapping | None) -> None:
    """The first FSDP is gone from the libraries below; its settings are read as the second's."""
    version = to_value(root.nodes["fsdp_version"]) if "fsdp_version" in root.nodes else None
    if version not in (None, 1):
        return
    key = "fsdp_version" if version == 1 else "fsdp_config" if "fsdp_config" in root.nodes else "fsdp"
    report.warn((key,), "the first FSDP is gone; this runs on the second", "write `fsdp_version: 2`")
    _put(root, "fsdp_version", 2, root.origins[key])
    strategy = config.nodes.get("sharding_strategy") if config else None
    if config is None or strategy is None or "reshard_after_forward" in config.nodes:
        return
    origin = config.origins["sharding_strategy"]
    _put(config, "reshard_after_forward", to_value(strategy) not in ("SHARD_GRAD_OP", 2), origin)


def from_list(nodes: list[Node], origin: Origin) -> Node:
    """A list node around nodes that exist already."""
    items = from_value([], origin)
    assert not isinstance(items, Scalar | Mapping)
    items.nodes.extend(nodes)
    return items


def _is_given(parent: Mapping, key: str) -> bool:
    return key in parent.nodes and not is_null(parent.nodes[key])


def _take(parent: Mapping, key: str | int) -> Node:
    parent.origins.pop(key)
    return parent.nodes.pop(key)


def _take_truthy(parent: Mapping, key: str) -> bool:
    return bool(to_value(_take(parent, key))) if key in parent.nodes else False


def _put(parent: Mapping, key: str, value: object, origin: Origin) -> None:
    parent.nodes[key], parent.origins[key] = from_value(value, origin), origin


def _child(parent: Mapping, key: str, origin: Origin) -> Mapping:
    """The mapping at a key, made when there is none."""
    node = parent.nodes.get(key)
    if not isinstance(node, Mapping):
        node = Mapping({}, {}, origin)
        parent.nodes[key], parent.origins[key] = node, origin
    return node
