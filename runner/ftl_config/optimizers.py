"""Names of optimizers: what they are read as, and the packages that some of them need."""

from __future__ import annotations

from ftl_config.wordlist import words

TRANSFORMERS_OPTIMIZERS = frozenset(
    words("""
        adamw_torch adamw_torch_fused adamw_torch_xla adamw_torch_npu_fused adafactor adamw_anyprecision
        adamw_torch_4bit adamw_torch_8bit ademamix sgd adagrad adamw_bnb_8bit adamw_8bit ademamix_8bit lion_8bit
        lion_32bit paged_adamw_32bit paged_adamw_8bit paged_ademamix_32bit paged_ademamix_8bit
        paged_lion_32bit paged_lion_8bit rmsprop rmsprop_bnb rmsprop_bnb_8bit rmsprop_bnb_32bit galore_adamw
        galore_adamw_8bit galore_adafactor galore_adamw_layerwise galore_adamw_8bit_layerwise
        lomo adalomo grokadamw schedule_free_radam schedule_free_adamw
        schedule_free_sgd apollo_adamw apollo_adamw_layerwise stable_adamw
    """)
)
"""transformers.training_args.OptimizerNames of transformers 5.17."""

ALIASES = {"lion": "lion_32bit", "ao_adamw_4bit": "adamw_torch_4bit", "ao_adamw_8bit": "adamw_torch_8bit"}
"""Older names, and transformers' name of the same thing."""

OWN_OPTIMIZERS = frozenset(words("muon adopt_adamw optimi_adamw ao_adamw_fp8 came_pytorch"))
"""Made by ftl_runner.trainer.optimizers; transformers has no name for them."""

UNSUPPORTED_OPTIMIZERS = frozenset(
    words("""
        galore_adafactor_layerwise dion sinkgd flash_adamw flash_adam flash_sgd flash_sgdw flash_lion
        q_galore_adamw8bit
    """)
)
"""Axolotl's others, and one that transformers names and cannot make: it gives Adafactor a rate it refuses."""

OPTIMIZERS = TRANSFORMERS_OPTIMIZERS | OWN_OPTIMIZERS | frozenset(ALIASES)

TAKE_OPTIM_ARGS = tuple(
    words("""
        adamw_anyprecision ademamix paged_ademamix adamw_torch_4bit adamw_torch_8bit ao_adamw sgd rmsprop_bnb galore
        apollo lomo adalomo grokadamw schedule_free stable_adamw muon adopt optimi came
    """)
)
"""Beginnings of the names that ``optim_args`` means something to."""

_BITSANDBYTES = ("bitsandbytes", "bitsandbytes")
_PACKAGES = {
    "galore": ("galore_torch", "galore-torch"),
    "apollo": ("apollo_torch", "apollo-torch"),
    "lomo": ("lomo_optim", "lomo-optim"),
    "adalomo": ("lomo_optim", "lomo-optim"),
    "grokadamw": ("grokadamw", "grokadamw"),
    "schedule_free": ("schedulefree", "schedulefree"),
    "stable_adamw": ("optimi", "torch-optimi"),
    "optimi_adamw": ("optimi", "torch-optimi"),
    "came_pytorch": ("came_pytorch", "came-pytorch"),
    "adamw_torch_4bit": ("torchao", "torchao"),
    "adamw_torch_8bit": ("torchao", "torchao"),
    "ao_adamw": ("torchao", "torchao"),
    "adamw_anyprecision": ("torchdistx", "torchdistx"),
    "adamw_torch_xla": ("torch_xla", "torch-xla"),
    "adamw_torch_npu": ("torch_npu", "torch-npu"),
    "adamw_bnb_8bit": _BITSANDBYTES,
    "adamw_8bit": _BITSANDBYTES,
    "ademamix": _BITSANDBYTES,
    "lion": _BITSANDBYTES,
    "paged": _BITSANDBYTES,
    "rmsprop_bnb": _BITSANDBYTES,
}


def optimizer_package(name: str) -> tuple[str, str] | None:
    """Module to import and package to install for an optimizer; None where PyTorch and transformers are enough."""
    for beginning, package in _PACKAGES.items():
        if name.startswith(beginning):
            return package
    return None
