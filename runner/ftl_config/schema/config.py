"""The whole config: sections side by side."""

from ftl_config.schema.adapter import AdapterSection
from ftl_config.schema.checkpointing import CheckpointingSection
from ftl_config.schema.data import DataSection
from ftl_config.schema.distributed import DistributedSection
from ftl_config.schema.integrations import IntegrationsSection
from ftl_config.schema.kernels import KernelsSection
from ftl_config.schema.launch import LaunchSection
from ftl_config.schema.logging import LoggingSection
from ftl_config.schema.model import ModelSection
from ftl_config.schema.multimodal import MultimodalSection
from ftl_config.schema.precision import PrecisionSection
from ftl_config.schema.preference import PreferenceSection
from ftl_config.schema.quantization import QuantizationSection
from ftl_config.schema.training import TrainingSection
from ftl_config.schema.types import Section


class Config(Section):
    """What a user wrote, typed. In YAML all sections but ``launch`` are flat; attributes carry the YAML's key names."""

    model: ModelSection
    """Base model, tokenizer, attention."""
    adapter: AdapterSection
    """LoRA and kin, bitsandbytes."""
    data: DataSection
    """Datasets, chat templates, packing."""
    training: TrainingSection
    """Batch, steps, optimizer, schedule, memory savers."""
    precision: PrecisionSection
    """Number formats."""
    distributed: DistributedSection
    """DeepSpeed, FSDP, DDP, Ray, model parallelism."""
    checkpointing: CheckpointingSection
    """Saving, evaluating, resuming, uploading."""
    logging: LoggingSection
    """Progress, trackers, samples."""
    kernels: KernelsSection
    """Faster implementations."""
    quantization: QuantizationSection
    """Quantization other than bitsandbytes."""
    preference: PreferenceSection
    """Preference tuning, reward models, reinforcement learning."""
    multimodal: MultimodalSection
    """Images and audio."""
    integrations: IntegrationsSection
    """Axolotl's plugins."""
    launch: LaunchSection
    """Where the run is started."""
