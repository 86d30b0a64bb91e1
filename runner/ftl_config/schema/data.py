"""What is trained on: datasets, chat templates, packing."""

from typing import Annotated, Literal

from pydantic import Field

from ftl_config.schema.types import Count, Fraction, NonNegative, NonNegativeInt, Options, Positive, Section, Texts

TrainOnTokens = Literal["all", "turn", "last", "none"]


class UserDefinedType(Section):
    """A prompt format written out in the config, given in place of a type's name."""

    system_prompt: str | None = None
    """System prompt for rows that bring none."""
    system_format: str | None = None
    """How the system prompt is written; {system} stands for it."""
    field_system: str | None = None
    """Column of the system prompt."""
    field_instruction: str | None = None
    """Column of the instruction."""
    field_input: str | None = None
    """Column of the input that the instruction is about."""
    field_output: str | None = None
    """Column of the answer."""
    format: str | None = None
    """The prompt, with {instruction} and {input}."""
    no_input_format: str | None = None
    """The prompt of rows whose input is empty, with {instruction}."""
    field_prompt: str | None = None
    """Column of the prompt (preference data)."""
    field_chosen: str | None = None
    """Column of the better answer (preference data)."""
    field_rejected: str | None = None
    """Column of the worse answer (preference data)."""
    field_completion: str | None = None
    """Column of the answer (KTO)."""
    field_label: str | None = None
    """Column that says whether the answer is good (KTO)."""
    prompt_format: str | None = None
    """The prompt, with {prompt} and {system} (preference data)."""
    chosen_format: str | None = None
    """The better answer, with {chosen}."""
    rejected_format: str | None = None
    """The worse answer, with {rejected}."""
    completion_format: str | None = None
    """The answer, with {completion} (KTO)."""


class DatasetSpec(Section):
    """One dataset: where its rows come from and how a row becomes a sample."""

    path: str | None = None
    """Hub id, local file or directory, or s3://, gs:// or https:// address."""
    type: str | UserDefinedType | None = None
    """Format of a row: chat_template, alpaca, completion, input_output, ...; empty for tokenized rows."""
    name: str | Texts | None = None
    """Configuration(s) of a hub dataset."""
    split: str | None = None
    """Split to read, slices allowed: train[:10%]. `train` when left out."""
    ds_type: str | None = None
    """Kind of file: json, parquet, arrow, csv, text. Guessed from the name when left out."""
    data_files: str | Texts | None = None
    """Files to read below path."""
    revision: str | None = None
    """Branch, tag or commit of a hub dataset."""
    trust_remote_code: bool = False
    """Run the dataset's own Python code. No longer offered by the datasets library."""
    shards: Count | None = None
    """Cut the dataset into this many pieces and use one."""
    shards_idx: NonNegativeInt | None = None
    """Which of the pieces to use."""
    weight: Positive | None = None
    """How often the rows are used: 2 takes each of them twice, 0.5 a random half. When streaming, the share of the
    rows that are drawn from this dataset, against the weights of the others (1 when left out)."""
    preprocess_shards: Count | None = None
    """Prepare the dataset in this many pieces, to save memory."""
    chat_template: str | None = None
    """Chat template of this dataset; the config's own when left out."""
    chat_template_jinja: str | None = None
    """Chat template of this dataset as Jinja text or file."""
    chat_template_kwargs: Options | None = None
    """Variables for this dataset's chat template."""
    field: str | None = None
    """Column of the text (completion); `text` when left out."""
    field_messages: str | None = None
    """Column of the messages; `messages` when left out."""
    field_system: str | None = None
    """Column of a system prompt beside the messages."""
    field_tools: str | None = None
    """Column of tool definitions; `tools` when left out."""
    field_thinking: str | None = None
    """Key of a message's reasoning; `reasoning_content` when left out."""
    template_thinking_key: str | None = None
    """Name under which the template expects the reasoning."""
    field_instruction: str | None = None
    """Column of the instruction."""
    field_input: str | None = None
    """Column of the input."""
    field_output: str | None = None
    """Column of the answer."""
    field_chosen: str | None = None
    """Column of the better answer (preference data)."""
    field_rejected: str | None = None
    """Column of the worse answer (preference data)."""
    field_human: str | None = None
    """Another name of the role user in conversations."""
    field_model: str | None = None
    """Another name of the role assistant in conversations."""
    message_property_mappings: dict[str, str] | None = None
    """Template's name of a message property to the dataset's name: {role: from, content: value}."""
    message_field_training: str | None = None
    """Key of a message that says whether it is trained on."""
    message_field_training_detail: str | None = None
    """Key of a message that says which characters of it are trained on."""
    roles: dict[str, Texts] | None = None
    """Role to the names that datasets give it: {user: [human, user]}."""
    roles_to_train: Texts | None = None
    """Roles whose messages are trained on; `assistant` when left out."""
    train_on_eos: TrainOnTokens | None = None
    """Which end-of-sequence tokens are trained on: all, turn (those of trained turns, the default), last, none."""
    train_on_eot: TrainOnTokens | None = None
    """The same for end-of-turn tokens; as train_on_eos when left out."""
    drop_system_message: bool = False
    """Leave out the dataset's system messages."""
    split_thinking: bool | None = None
    """Cut reasoning out of the content by its tags, for templates that want it apart."""
    input_transform: str | None = None
    """Python function by dotted path that takes each row first and returns the row that the format reads."""
    step_separator: str | None = None
    """Text between steps (process reward data)."""
    max_completion_length: Count | None = None
    """Longest completion in tokens (process reward data)."""
    train_on_last_step_only: bool | None = None
    """Train on the last step alone (process reward data)."""
    logprobs_field: str | None = None
    """Column of teacher log-probabilities (distillation)."""
    temperature: NonNegative | None = None
    """Temperature of the teacher (distillation)."""
    text_column: str | None = None
    """Column of the text (pretraining_dataset); `text` when left out."""
    skip: NonNegativeInt | None = None
    """Rows to skip at the start."""
    length: Count | None = None
    """Rows to make up (`type: _synthetic`); 1000 when left out."""
    sequence_length: Count | None = None
    """Tokens of a made-up row; 2048 when left out."""
    min_input_id: NonNegativeInt | None = None
    """Smallest token id of made-up rows; 100 when left out."""
    max_input_id: NonNegativeInt | None = None
    """Largest token id of made-up rows; 32000 when left out."""
    seed: int | None = None
    """Seed of made-up rows; 42 when left out."""


Datasets = Annotated[tuple[DatasetSpec, ...], Field(strict=False, min_length=1)]


class DataSection(Section):
    """Datasets and how rows become batches."""

    datasets: Datasets | None = None
    """Datasets to train on, mixed together."""
    test_datasets: Datasets | None = None
    """Datasets to evaluate on; in place of val_set_size."""
    pretraining_dataset: Datasets | None = None
    """Text to stream for continued pretraining, without preparing it first; needs max_steps."""
    val_set_size: NonNegative = 0.0
    """Share of the rows (below 1) or number of rows (above 1) held back for evaluation; 0 for none."""
    dataset_prepared_path: str | None = None
    """Where prepared datasets are kept for the next run: a directory, or s3://, gs://, az:// for other machines too."""
    dataset_num_proc: Count | None = None
    """Processes that prepare data; one a CPU core when left out."""
    dataset_shard_num: Count | None = None
    """Cut the merged dataset into this many pieces and use one."""
    dataset_shard_idx: NonNegativeInt | None = None
    """Which of the pieces to use."""
    num_dataset_shards_to_save: Count | None = None
    """Files that the prepared dataset is saved in."""
    dataset_keep_in_memory: bool | None = None
    """Prepare in memory, without files."""
    dataset_exact_deduplication: bool = False
    """Drop rows that stand twice."""
    shuffle_merged_datasets: bool = True
    """Shuffle the rows after the datasets are put together."""
    shuffle_before_merging_datasets: bool = False
    """Shuffle each dataset by itself, then keep the datasets in order."""
    skip_prepare_dataset: bool = False
    """Do not tokenize ahead; for image and audio models."""
    push_dataset_to_hub: str | None = None
    """Hub dataset (private) to upload the prepared data to, as the configuration named by its fingerprint."""
    hf_use_auth_token: bool | None = None
    """Send the Hugging Face token (from the environment) when reading datasets; it is sent whenever there is one."""
    sequence_len: Count = 512
    """Longest sample, and the size of a packed row, in tokens."""
    eval_sequence_len: Count | None = None
    """The same for evaluation; as sequence_len when left out."""
    excess_length_strategy: Literal["drop", "truncate", "raise"] | None = None
    """What to do with longer samples; drop when left out."""
    min_sample_len: Count | None = None
    """Shorter samples are dropped; 2 when left out."""
    skip_bad_rows: bool = False
    """Leave bad rows out and list them in rejected.jsonl beside the prepared data; false stops at the first."""
    train_on_inputs: bool = False
    """Train on the prompt too, not on the answer alone."""
    chat_template: str | None = None
    """Chat template: a name, tokenizer_default, tokenizer_default_fallback_<name>, or jinja."""
    chat_template_jinja: str | None = None
    """Chat template as Jinja text or the path of a file."""
    chat_template_kwargs: Options | None = None
    """Variables for the chat template, such as enable_thinking."""
    eot_tokens: Texts | None = None
    """Tokens that end a turn; the end-of-sequence token when left out."""
    default_system_message: str | None = None
    """System message for conversations without one."""
    group_by_length: bool = False
    """Batch samples of similar length together."""
    curriculum_sampling: bool = False
    """Keep the order of the data."""
    sample_packing: bool = False
    """Put several samples into one row, without one seeing another."""
    eval_sample_packing: bool | None = None
    """The same for evaluation; as sample_packing when left out."""
    pad_to_sequence_len: bool | None = None
    """Pad every batch to sequence_len; as sample_packing when left out."""
    pad_to_multiple_of: Count | None = None
    """Pad every batch to a multiple of this many tokens."""
    sample_packing_group_size: Count = 100_000
    """Samples that are packed together at a time."""
    sample_packing_bin_size: Count = 200
    """Most samples in one row."""
    sample_packing_sequentially: bool = False
    """Pack in the order of the data."""
    sample_packing_mp_start_method: Literal["fork", "spawn", "forkserver"] | None = None
    """How packing processes are started."""
    sample_packing_eff_est: Fraction | None = None
    """Axolotl's memory of a former run's packing efficiency; worked out anew here."""
    total_num_tokens: Count | None = None
    """Axolotl's memory of a former run's number of tokens; worked out anew here."""
    total_supervised_tokens: Count | None = None
    """Axolotl's memory of a former run's number of trained tokens; worked out anew here."""
    multipack_real_batches: bool | None = None
    """Keep packed rows apart in a batch, in place of one long row; FlashAttention always takes one long row."""
    batch_flattening: bool | Literal["auto"] | None = None
    """Join a batch into one row without padding, when samples are not packed. auto: with FlashAttention and on CPUs;
    left out: on CPUs."""
    max_prompt_len: Count | None = None
    """Longest prompt in preference training."""
    streaming: bool = False
    """Read datasets while training goes on, in constant memory, without preparing them first; needs max_steps."""
    streaming_multipack_buffer_size: Count = 10_000
    """Samples that are shuffled and packed together at a time when streaming."""
    pretrain_multipack_attn: bool = True
    """Packed samples of pretraining_dataset do not see each other; false: they do."""
    pretraining_sample_concatenation: bool | None = None
    """Join samples end to end and cut them into rows of sequence_len, when streaming without sample_packing."""
    remove_unused_columns: bool | None = None
    """Drop columns that the model does not take."""
    dataloader_num_workers: NonNegativeInt | None = None
    """Processes that load batches."""
    dataloader_pin_memory: bool | None = None
    """Load batches into page-locked memory."""
    dataloader_prefetch_factor: Count | None = None
    """Batches that each loading process keeps ready."""
    dataloader_drop_last: bool | None = None
    """Drop the last, smaller batch."""
    accelerator_config: Options | None = None
    """Options of Accelerate's data loading and gradient accumulation."""
