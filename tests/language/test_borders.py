"""Where a prompt ends and its answer begins, in tokens: for every kind of tokenizer."""

import pytest
from small_tokenizers import BLANK, byte_level, sentencepiece, write

from proximo.language.text.data import read_preferences, read_prompts, read_training_texts
from proximo.language.text.tokenizer import character_tokenizer, load_tokenizer, word_tokenizer

KINDS = {
    "as of Llama 2": lambda: sentencepiece("BPE", "legacy"),
    "as of Llama 2, converted anew": lambda: sentencepiece("BPE", "first"),
    "as of Gemma, with a blank": lambda: sentencepiece("BPE", "always"),
    "Unigram": lambda: sentencepiece("Unigram", "legacy"),
    "as of T5": lambda: sentencepiece("Unigram", "always"),
    "as of GPT-2": lambda: byte_level(["</s>", "<s>"]),
    "as of GPT-2, with a blank": lambda: byte_level(["</s>", "<s>"]),
}
PAIRS = [
    ("the sky is", " blue"),
    ("the sky is ", "blue"),
    ("the sky is", "\nblue"),
    ("the sky:\n", "blue"),
    ("the sky:\n", " blue"),
    ("the sky:\n", "\nblue"),
    ("the sky i", "s blue"),
    ("the sk", "y"),
    ("hello</s>", "world"),
    ("hello", "</s>"),
    (" hello", "  world "),
    ("\n\n", "\n"),
    ("naïve", "é 🙂"),
    ("1", "23"),
]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request, tmp_path_factory):
    folder = write(
        tmp_path_factory.mktemp("tokenizer"),
        KINDS[request.param]().to_str(),
        eos_token="</s>",
        bos_token="<s>",
        add_prefix_space=request.param.endswith("with a blank"),
    )
    return load_tokenizer(folder)


def learned(tokenizer, prompt, completion):
    """The ids of the prompt, and those that are learned."""
    (text,) = read_training_texts([{"prompt": prompt, "completion": completion}], tokenizer, 999).records
    return text.ids[~text.learn].tolist(), text.ids[text.learn].tolist()


@pytest.mark.parametrize(("prompt", "completion"), PAIRS)
def test_an_answer_is_the_tail_of_the_whole_text(tokenizer, prompt, completion):
    before, answer = learned(tokenizer, prompt, completion)
    assert before == read_prompts([{"prompt": prompt}], tokenizer, 999).records[0].ids.tolist()
    whole, eos = [*tokenizer.start_ids, *tokenizer.encode(prompt + completion)], tokenizer.eos_id
    if whole[: len(before)] == before:
        tail = whole[len(before) :]
        assert answer == (tail if tail[-1] == eos else [*tail, eos])
    # In any case the pieces say what the whole says, no blank more: "the sky i" + "s blue" too.
    spelt = completion.removesuffix("</s>")
    ids = [id for id in (*before, *answer) if id != eos]
    assert tokenizer.decode(ids) == tokenizer.decode(tokenizer.encode(prompt + spelt))


@pytest.mark.parametrize(("prompt", "completion"), PAIRS[:9])
def test_preferences_have_the_same_borders(tokenizer, prompt, completion):
    record = {"prompt": prompt, "chosen": completion, "rejected": completion + "!"}
    (one,) = read_preferences([record], tokenizer, 999).records
    assert (one.prompt_ids.tolist(), one.chosen_ids.tolist()) == learned(tokenizer, prompt, completion)


@pytest.mark.parametrize("model", ["BPE", "Unigram"])
@pytest.mark.parametrize(
    ("prompt", "completion", "tokens"),
    [
        # "_" is the mark of a blank. Given alone " blue" would be "_ _blue", and "blue" "_blue".
        ("the sky is", " blue", "_blue"),
        ("the sky:\n", "blue", "blue"),
        ("the sky:\n", " blue", "_blue"),
        ("the sky", "blue", "blue"),
        # Together "i" and "s" would be "_is", which no prompt that ends with "i" is followed by.
        ("the sky i", "s blue", "s _blue"),
        ("the sky is ", "blue", "blue"),
    ],
)
def test_an_answer_gains_no_blank(tmp_path, model, prompt, completion, tokens):
    tokenizer = load_tokenizer(write(tmp_path, sentencepiece(model).to_str(), eos_token="</s>"))
    _, answer = learned(tokenizer, prompt, completion)
    assert [tokenizer.token(id).replace(BLANK, "_") for id in answer] == [*tokens.split(), "</s>"]


def test_whole_words_are_joined_by_nothing():
    # Written together "a" and "b" are the word "ab", or an unknown one that hides half of the answer.
    assert learned(word_tokenizer(["a", "b", "ab"]), "a", "b") == ([3], [4, 1])
    assert learned(word_tokenizer(["a", "b"]), "a", "b b") == ([3], [4, 4, 1])
    assert learned(word_tokenizer(["a", "b"], unknown="?"), "a z", "b b") == ([4, 3], [5, 5, 1])
    assert learned(character_tokenizer("ab"), "a", "ba") == ([3], [4, 3, 1])


def test_a_token_that_swallows_blanks_swallows_those_of_the_answer(tmp_path):
    # As of Phi-3: behind <|assistant|> no line break is ever sampled, so that none is learned.
    from tokenizers import AddedToken

    backend = byte_level(["</s>"])
    backend.add_tokens([AddedToken("<|assistant|>", rstrip=True, special=True)])
    tokenizer = load_tokenizer(write(tmp_path, backend.to_str(), eos_token="</s>"))
    before, answer = learned(tokenizer, "hello<|assistant|>", "\nworld")
    assert before[-1] == tokenizer.backend.token_to_id("<|assistant|>")
    assert answer == [*tokenizer.encode("world"), tokenizer.eos_id]
