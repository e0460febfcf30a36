"""Small tokenizers as those of public models, made in place, and folders of them."""

import json

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = ["The quick brown fox jumps over the lazy dog.\n", "user assistant hello world answer\n\n"] * 5

CHATML = """\
{% for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
ZEPHYR = (
    "{% for m in messages %}{{ '|' + m.role + '|\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}|assistant|\n{% endif %}"
)


def byte_level(special=("<|endoftext|>", "<|im_start|>", "<|im_end|>")):
    """As of GPT-2 and Qwen: no text is unknown."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def metaspace():
    """As of Llama 2: a blank is put before every text, and BOS before that."""
    backend = Backend(models.BPE(unk_token="<unk>", byte_fallback=True))
    blank = chr(0x2581)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(blank), normalizers.Replace(" ", blank)])
    backend.decoder = decoders.Sequence(
        [decoders.Replace(blank, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    backend.post_processor = processors.TemplateProcessing(["<s>", "$A"], special_tokens=[("<s>", 1)])
    return backend


def write(folder, tokenizer, generation=None, **config):
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer, "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def saved(folder, tokenizer):
    folder.mkdir()
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
    return folder


BLANK = chr(0x2581)


def sentencepiece(model="BPE", scheme="legacy"):
    """As of Llama 2 (BPE) or T5 (Unigram): words with the blank before them are single tokens.

    scheme  who puts a blank before a text: the normaliser ("legacy"), or Metaspace ("always", "first")
    """
    words = ["the", "sky", "is", "blue", "hello", "world", "user", "assistant"]
    special, bytes_ = ["<unk>", "<s>", "</s>"], [f"<0x{byte:02X}>" for byte in range(256)]
    letters = [BLANK, *"abcdefghijklmnopqrstuvwxyz|.:"]
    if model == "BPE":
        backend = Backend(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        backend.pre_tokenizer = pre_tokenizers.Metaspace(BLANK, "always")
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=[*special, *bytes_], initial_alphabet=letters, show_progress=False
        )
        backend.train_from_iterator([*words, "the sky is blue", "skyblue"] * 5, trainer)
    else:
        scored = [*((word, -6.0) for word in words), *((BLANK + word, -4.0) for word in words)]
        pieces = [*((token, 0.0) for token in special), *((byte, -20.0) for byte in bytes_)]
        pieces += [*((letter, -9.0) for letter in letters), *scored]
        backend = Backend(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    if scheme == "legacy":
        prepend, replace = normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)
        backend.normalizer, backend.pre_tokenizer = normalizers.Sequence([prepend, replace]), None
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(BLANK, scheme, split=model != "BPE")
    backend.add_special_tokens(special)
    parts = [
        decoders.Replace(BLANK, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
    backend.decoder = decoders.Sequence(parts)
    backend.post_processor = processors.TemplateProcessing(["<s>", "$A"], special_tokens=[("<s>", 1)])
    return backend
