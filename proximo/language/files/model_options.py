"""Which model a command is about."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from proximo.core.ranges import above, at_least
from proximo.learn.mesh import MeshOptions
from proximo.options import also


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model, and what of it is trained."""

    model: Annotated[str, also("--model-name-or-path", "--sft-model-path")]
    """A model folder, or an id of the Hugging Face Hub."""
    from_scratch: bool = False
    """Random weights in the shape that the folder's `config.json` gives; its own weights are not read."""
    lora_rank: Annotated[int, at_least(0), also("--lora-r")] = 0
    """Train adapters of this rank instead of all weights (LoRA, Hu et al. 2021); 0 for all weights."""
    lora_alpha: Annotated[float, above(0)] = 16.0
    """Adapters count alpha / rank times."""
    lora_targets: Annotated[tuple[str, ...], also("--lora-target-modules")] = ("query", "value")
    """Which maps have adapters: of query, key, value, output, gate, up, down; or `all-linear`."""
    eos_token: str | None = None
    """The token that ends a text, where the tokenizer does not say."""
    pad_token: str | None = None
    """The token that fills a batch up, where the tokenizer does not say."""
    chat_template: Annotated[Path | None, also("--chat-template-path")] = None
    """A file with a chat template (Jinja), in the place of the model's; the trained model keeps it."""
    chat_template_kwargs: str | None = None
    """What the chat template is told besides messages, as JSON: `{"enable_thinking": false}`. A record's
    column of this name wins over it."""
    save_dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """What the model is saved in; as it came unless said, and float32 for random weights. What learns, and
    every checkpoint, is float32."""
    mesh: MeshOptions = field(default_factory=MeshOptions)
