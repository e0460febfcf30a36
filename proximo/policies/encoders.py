"""What turns the parts of an observation into one vector of features: each part has an encoder of its own."""

from math import isqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from proximo.core.types import Choices, PartKind, Picture, Seen, Tokens, Words, vector_of
from proximo.policies.convolution import ImageNetwork, fitting
from proximo.policies.memory import GRU
from proximo.policies.mlp import Dense
from proximo.policies.options import NetworkOptions

BLOCK = 8  # symbols of a text that are read together
WORD_ROWS = isqrt(Words.vocabulary)  # of the table of words: half of a hash's bits


class ImageEncoder(eqx.Module):
    """An image as features, its channels brought behind height and width."""

    network: ImageNetwork
    kind: Picture = eqx.field(static=True)

    def __init__(self, key: Array, kind: Picture, options: NetworkOptions) -> None:
        shape = channels_last(kind)
        chosen = options.image_network or fitting(shape)
        self.network, self.kind = chosen.network(key, shape, options.initialiser), kind

    @property
    def size(self) -> int:
        return self.network.output.bias.shape[0]

    @property
    def channels(self) -> int:
        """Of the maps, which may be modulated."""
        return self.network.maps.channels

    def __call__(
        self, images: Shaped[Array, "*batch h w c"], modulation: Float[Array, "*batch 2*C"] | None = None
    ) -> Float[Array, "*batch F"]:
        return self.network(with_channels_last(images, self.kind), modulation)


def channels_last(kind: Picture) -> tuple[int, int, int]:
    """Height, width and channels of an image."""
    if len(kind.shape) == 2:
        return (*kind.shape, 1)  # type: ignore[return-value]
    return (*kind.shape[1:], kind.shape[0]) if kind.channels_first else kind.shape  # type: ignore[return-value]


def with_channels_last(images: Any, kind: Picture) -> Any:
    """Images [..., *shape] as [..., height, width, channels]."""
    if len(kind.shape) == 2:
        return images[..., None]
    return jnp.moveaxis(images, -3, -1) if kind.channels_first else images


class CategoryEncoder(eqx.Module):
    """Categories, each as a learned vector, side by side."""

    table: Float[Array, "rows E"]
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, key: Array, kind: Choices, options: NetworkOptions) -> None:
        self.table = jax.random.normal(key, (sum(kind.sizes), options.embedding))
        self.sizes = kind.sizes

    @property
    def size(self) -> int:
        return len(self.sizes) * self.table.shape[1]

    def __call__(self, choices: Int[Array, "*batch K"]) -> Float[Array, "*batch K*E"]:
        first = np.cumsum([0, *self.sizes[:-1]])
        return self.table[choices + first].reshape(*choices.shape[:-1], self.size)


class TextEncoder(eqx.Module):
    """A text: a learned vector for each symbol, read by a GRU to the text's end.

    A word's is the sum of two rows of a table, the halves of its hash: few words have both in common
    (Svenstrup 2017, hash embeddings).
    """

    table: Float[Array, "vocabulary E"]
    reader: GRU
    in_words: bool = eqx.field(static=True)

    def __init__(self, key: Array, kind: Tokens | Words, options: NetworkOptions) -> None:
        table_key, reader_key = jax.random.split(key)
        self.in_words = isinstance(kind, Words)
        rows = WORD_ROWS if isinstance(kind, Words) else kind.vocabulary
        self.table = jax.random.normal(table_key, (rows, options.embedding))
        self.reader = GRU(reader_key, options.embedding, options.text_features, options.initialiser)

    @property
    def size(self) -> int:
        return self.reader.size

    def embedded(self, tokens: Int[Array, "*rows"]) -> Float[Array, "*rows E"]:
        if not self.in_words:
            return self.table[tokens]
        upper = jax.lax.div(tokens, WORD_ROWS)  # a division that ONNX has
        return self.table[tokens - upper * WORD_ROWS] + self.table[upper]

    def read(self, state: Float[Array, "B F"], tokens: Int[Array, "L B"]) -> Float[Array, "B F"]:
        """What the reader knows after these symbols, of a text that goes on or ends within them."""
        states, _ = self.reader(self.embedded(tokens), None, state)
        count = jnp.sum(tokens != 0, axis=0)
        last = jnp.take_along_axis(states, jnp.maximum(count - 1, 0)[None, :, None], axis=0)[0]
        return jnp.where(count[:, None] > 0, last, state)

    def __call__(self, tokens: Int[Array, "*batch L"]) -> Float[Array, "*batch F"]:
        flat = tokens.reshape(-1, tokens.shape[-1]).T
        state = self.reader.begin(flat.shape[1])
        if len(flat) <= BLOCK or not isinstance(flat.shape[1], int):  # a graph for batches of any size
            state = self.read(state, flat)
        else:  # most texts are far shorter than their space allows
            blocks = jnp.pad(flat, ((0, -len(flat) % BLOCK), (0, 0))).reshape(-1, BLOCK, flat.shape[1])

            @jax.checkpoint  # else each block that is passed over has a gradient of zeros: ten times the work
            def more(state: Array, block: Array) -> tuple[Array, None]:
                read = jax.lax.cond(jnp.any(block != 0), lambda: self.read(state, block), lambda: state)
                return read, None

            state, _ = jax.lax.scan(more, self.read(state, blocks[0]), blocks[1:])
        return state.reshape(*tokens.shape[:-1], self.size)


Encoder = ImageEncoder | CategoryEncoder | TextEncoder
ENCODERS: dict[type, type[Encoder]] = {
    Picture: ImageEncoder,
    Choices: CategoryEncoder,
    Tokens: TextEncoder,
    Words: TextEncoder,
}


class Encoders(eqx.Module):
    """What is seen of an observation as one vector: its numbers, then what each encoder makes of its part.

    names       of the parts that have an encoder
    first       of the vector's numbers that are seen, `numbers` of them
    modulation  from what images are not (numbers, categories, texts) to a scale and a shift for each channel
                of each image; () unless asked for
    """

    encoders: tuple[Encoder, ...]
    modulation: tuple[Dense, ...]
    names: tuple[str, ...] = eqx.field(static=True)
    numbers: int = eqx.field(static=True)
    first: int = eqx.field(static=True)

    def __init__(self, key: Array, seen: Seen, options: NetworkOptions, first: int = 0) -> None:
        numbers, parts = seen.numbers, seen.parts
        *keys, modulation_key = jax.random.split(key, len(parts) + 1)
        self.names, self.numbers, self.first = tuple(parts), numbers, first
        self.encoders = tuple(
            ENCODERS[type(kind)](one, kind, options)  # type: ignore[arg-type]
            for one, kind in zip(keys, parts.values(), strict=True)
        )
        images = [one for one in self.encoders if isinstance(one, ImageEncoder)]
        others = numbers + sum(one.size for one in self.encoders if not isinstance(one, ImageEncoder))
        asked = options.modulate and others > 0
        self.modulation = tuple(
            Dense(one, others, 2 * image.channels, 0.0, "lecun")  # begins as no modulation
            for one, image in zip(
                jax.random.split(modulation_key, max(len(images), 1)), images if asked else [], strict=False
            )
        )

    @property
    def size(self) -> int:
        return self.numbers + sum(one.size for one in self.encoders)

    def __call__(self, obs: Any) -> Float[Array, "*batch F"]:
        numbers = vector_of(obs)[..., self.first : self.first + self.numbers]
        read = {
            name: encoder(obs[name])
            for name, encoder in zip(self.names, self.encoders, strict=True)
            if not isinstance(encoder, ImageEncoder)
        }
        told: Any = jnp.concatenate([numbers, *read.values()], axis=-1) if self.modulation else None
        modulation = iter(self.modulation)
        for name, encoder in zip(self.names, self.encoders, strict=True):
            if isinstance(encoder, ImageEncoder):
                layer = next(modulation, None)
                read[name] = encoder(obs[name], None if layer is None else layer(told))
        return jnp.concatenate([numbers, *(read[name] for name in self.names)], axis=-1)


def reading_in_words(options: NetworkOptions, seen: Seen) -> str:
    """How Proximo's networks read an observation, such as "read: 'view' by convolutions (small) + 2 numbers".

    Empty where it is numbers alone, and nothing is remembered.
    """
    read = [_part_in_words(options, name, kind) for name, kind in seen.parts.items()]
    read += [f"{seen.numbers:,} {'number' if seen.numbers == 1 else 'numbers'}"] if seen.numbers else []
    memory, words = options.memory, []
    if seen.parts:
        words.append(f"read: {' + '.join(read)}")
    if memory is not None:
        words.append(f"memory: {type(memory).__name__.lower()} of {memory.size:,}")
    return "; ".join(words)


def _part_in_words(options: NetworkOptions, name: str, kind: PartKind) -> str:
    if isinstance(kind, Picture):
        chosen = options.image_network or fitting(channels_last(kind))
        return f"{name!r} by convolutions ({type(chosen).__name__.lower()})"
    if isinstance(kind, Choices):
        return f"{name!r} as {options.embedding:,} learned numbers{' each' if len(kind.sizes) > 1 else ''}"
    of = "words" if isinstance(kind, Words) else "letters"
    return f"{name!r} by a GRU over {of}, as {options.text_features:,} numbers"
