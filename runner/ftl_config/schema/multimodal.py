"""Images and audio."""

from typing import Annotated, Literal

from pydantic import Field

from ftl_config.schema.types import Options, Pair, Section


class MultimodalSection(Section):
    """Images and audio."""

    processor_type: str | None = None
    """transformers class of the processor."""
    processor_kwargs: Options | None = None
    """Arguments of the processor."""
    image_size: int | Pair | None = None
    """Size that images are brought to."""
    image_resize_algorithm: Literal["bilinear", "bicubic", "lanczos"] | None = None
    """How images are resized."""
    role_boundaries: Annotated[tuple[Options, ...], Field(strict=False)] | None = None
    """Texts that mark the turns of a role, for masking."""
    freeze_mm_modules: bool = False
    """Train the language part alone."""
