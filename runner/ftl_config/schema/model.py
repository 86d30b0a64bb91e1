"""What is trained: base model, tokenizer, attention."""

from ftl_config.schema.types import Count, Integers, Options, Section, Texts


class SpecialTokens(Section):
    """Special tokens to set on the tokenizer; those it lacks are added."""

    bos_token: str | None = None
    """Starts a sequence."""
    eos_token: str | None = None
    """Ends a sequence."""
    pad_token: str | None = None
    """Fills up a batch; never trained on."""
    unk_token: str | None = None
    """Stands for what the vocabulary lacks."""
    additional_special_tokens: Texts | None = None
    """More tokens that are never split."""


class ModelSection(Section):
    """Model and tokenizer."""

    base_model: str = ""
    """Model to start from: a Hugging Face id, a local directory, or a GGUF file."""
    base_model_config: str | None = None
    """Where to read the model's config.json from, when base_model has none."""
    model_revision: str | None = None
    """Branch, tag or commit of base_model on the hub."""
    model_type: str | None = None
    """transformers class to load the model with, such as AutoModelForCausalLM."""
    cls_model_config: str | None = None
    """transformers class to load the model's config with; AutoConfig by default."""
    overrides_of_model_config: Options | None = None
    """Values to change in the model's config before it is loaded, rope_scaling for example."""
    model_kwargs: Options | None = None
    """Extra arguments for the model's from_pretrained()."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for sources you have read."""
    tokenizer_config: str | None = None
    """Where to load the tokenizer from, when not from base_model."""
    tokenizer_type: str | None = None
    """transformers class of the tokenizer; AutoTokenizer by default."""
    tokenizer_use_fast: bool = True
    """Use the Rust tokenizer; transformers 5 has no other."""
    tokenizer_legacy: bool | None = None
    """`legacy` argument of Llama-family tokenizers."""
    tokenizer_use_mistral_common: bool = False
    """Use Mistral's own tokenizer package in place of transformers'."""
    tokenizer_save_jinja_files: bool = True
    """Save chat templates as files of their own beside the tokenizer."""
    special_tokens: SpecialTokens | None = None
    """Special tokens to set, by role."""
    tokens: Texts | None = None
    """Plain tokens to add to the vocabulary."""
    added_tokens_overrides: dict[int, str] | None = None
    """Reserved tokens to rename: id to new text."""
    resize_token_embeddings_to_32x: bool = False
    """Pad a resized embedding to a multiple of 32 rows."""
    mean_resizing_embeddings: bool = False
    """Give new embedding rows the distribution of the old ones in place of the model's initialisation."""
    shrink_embeddings: bool = False
    """Cut the embedding when the tokenizer is smaller than it."""
    embeddings_skip_upcast: bool | None = None
    """Keep embeddings in the model's dtype when an adapter is trained."""
    reinit_weights: bool = False
    """Start from random weights: only the architecture of base_model is used."""
    fix_untrained_tokens: int | Integers | None = None
    """Ids of tokens whose embedding is set to the mean of the others before training."""
    attn_implementation: str | None = None
    """Attention: eager, sdpa, flash_attention_2, flash_attention_3, flex_attention, or a hub kernel (with a slash)."""
    flex_attn_compile_kwargs: Options | None = None
    """torch.compile arguments for flex_attention."""
    scaling_softmax: bool = False
    """Scale attention logits with the logarithm of the length (SSMax)."""
    scaling_softmax_factor: float | None = None
    """Factor of scaling_softmax."""
    scaling_softmax_bias: float | None = None
    """Bias of scaling_softmax."""
    device_map: str | int | dict[str, str | int] | None = None
    """Placement of layers on devices. Each process has its model on one GPU, so nothing is placed."""
    max_memory: dict[int | str, int | str] | None = None
    """Memory that the process on each GPU may use, by the GPU's number: 20GiB, 20000MB; a plain number is bytes."""
    gpu_memory_limit: int | str | None = None
    """Memory that the process on each GPU may use: 20GiB, 20000MB; a plain number is GiB."""
    low_cpu_mem_usage: bool | None = None
    """Load weights without a second copy in memory. transformers 5 always does."""
    llama4_linearized_experts: bool = False
    """Load Llama 4 experts as separate linear layers."""
    use_onebitllms: bool = False
    """Train a BitNet model in 1.58 bits."""
    num_labels: Count | None = None
    """Outputs of a sequence or token classification head."""
    is_falcon_derived_model: bool | None = None
    """Axolotl's internal mark; the model's config says what it is."""
    is_llama_derived_model: bool | None = None
    """Axolotl's internal mark; the model's config says what it is."""
    is_mistral_derived_model: bool | None = None
    """Axolotl's internal mark; the model's config says what it is."""
    is_qwen_derived_model: bool | None = None
    """Axolotl's internal mark; the model's config says what it is."""
    use_pose: bool = False
    """Train on skipped positions to extend the context (PoSE)."""
    pose_split_on_token_ids: Integers | None = None
    """Tokens at which PoSE may split."""
    pose_max_context_len: Count | None = None
    """Context length that PoSE aims at."""
    pose_num_chunks: Count | None = None
    """Pieces that PoSE splits a sample into."""
