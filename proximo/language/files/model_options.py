"""The model of a training command."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from proximo.core.ranges import above, at_least
from proximo.learn.mesh import MeshOptions
from proximo.options import FILE, MODEL, also


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model, and which of its weights are trained."""

    model: Annotated[str, MODEL, also("--model-name-or-path", "--sft-model-path")]
    """A model folder, a run, or an id of the Hugging Face Hub."""
    from_scratch: bool = False
    """Start from random weights, with the architecture in the folder's config.json."""
    lora_rank: Annotated[int, at_least(0), also("--lora-r")] = 0
    """Train LoRA adapters of this rank instead of all weights (Hu et al. 2021); 0 for all weights."""
    lora_alpha: Annotated[float, above(0)] = 16.0
    """LoRA alpha: adapters are scaled by alpha / rank."""
    lora_targets: Annotated[tuple[str, ...], also("--lora-target-modules")] = ("query", "value")
    """Which projections get LoRA adapters: query, key, value, output, gate, up, down; or `all-linear`."""
    eos_token: str | None = None
    """End-of-text token, which ends a response; by default the tokenizer's."""
    pad_token: str | None = None
    """Padding token; by default the tokenizer's."""
    chat_template: Annotated[Path | None, FILE, also("--chat-template-path")] = None
    """A file with a chat template (Jinja) to use instead of the model's; the trained model keeps it."""
    chat_template_kwargs: str | None = None
    """Variables for the chat template, as JSON: `{"enable_thinking": false}`. A record's own column of this
    name has priority."""
    save_dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Data type of the saved model; by default that of the original model, or float32 for random weights.
    Training and checkpoints always use float32."""
    mesh: MeshOptions = field(default_factory=MeshOptions)
