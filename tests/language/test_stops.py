"""Stops: texts that end an answer, as the tokens that they have there."""

import pytest
from policies import PROMPTS, TOKENIZER, options, rollouts
from small_models import small_model
from small_tokenizers import byte_level, metaspace, write

from proximo.errors import UserError
from proximo.language.text.tokenizer import load_tokenizer, word_tokenizer
from proximo.language.train.respond import GenerationOptions, answers, checked, stop_sequences

STOPS = ("\n\n", "world", " hello", "user", "fox!")


def ends(ids, stops):
    """Whether tokens end as one of the stops has it."""
    return any(tuple(ids[-len(stop) :]) == stop for stop in stops)


@pytest.fixture(scope="module", params=["as of Llama 2", "as of GPT-2"])
def tokenizer(request, tmp_path_factory):
    llama = request.param == "as of Llama 2"
    folder = write(
        tmp_path_factory.mktemp("tokenizer") / "it",
        (metaspace() if llama else byte_level()).to_str(),
        eos_token="</s>" if llama else "<|endoftext|>",
    )
    return load_tokenizer(folder)


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("before", ["lazy dog", "0"])
def test_a_stop_is_found_behind_other_text(tokenizer, stop, before):
    assert ends(tokenizer.encode(before + stop), stop_sequences(tokenizer, (stop,)))


def test_a_mark_of_a_blank_is_left_out_behind_other_text(tmp_path):
    # SentencePiece writes "world" as "▁world" at the beginning, but "0world" has no blank to mark.
    tokenizer = load_tokenizer(write(tmp_path / "it", metaspace().to_str(), eos_token="</s>"))
    alone = tokenizer.encode("\n\n")
    assert tokenizer.token(alone[0]) == "▁"
    stops = stop_sequences(tokenizer, ("\n\n",))
    assert stops == (tuple(alone), tuple(alone[1:]))
    assert not ends(tokenizer.encode("0\n\n"), stops[:1]) and ends(tokenizer.encode("0\n\n"), stops)


def test_a_stop_of_which_nothing_is_known_behind_text_is_taken_as_it_is_alone():
    words = word_tokenizer(["a", "stop"])  # `astop` would be an unknown word
    assert stop_sequences(words, ("stop", "a stop")) == ((4,), (3, 4))
    assert stop_sequences(words, ()) == ()


def test_a_stop_without_tokens_is_refused():
    with pytest.raises(UserError, match="stop is '', which has no token and would end every response"):
        stop_sequences(TOKENIZER, ("a", ""))
    with pytest.raises(UserError, match="stop is ''"):
        rollouts(options(sampling=dict(stop=("",))))
    with pytest.raises(UserError, match="stop ' ': this text cannot be encoded"):
        stop_sequences(TOKENIZER, (" ",))


def test_answers_refuse_it_before_anything_is_drawn():
    drawing = GenerationOptions(stop=("",), max_new_tokens=4)
    with pytest.raises(UserError, match="stop is ''"):
        next(answers(small_model(layers=1), TOKENIZER, PROMPTS[:1], drawing))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_there_is_not_is_refused(seed):
    with pytest.raises(UserError, match=f"seed is {seed}: it must lie between 0 and"):
        checked(GenerationOptions(seed=seed))
    assert checked(GenerationOptions(seed=2**63 - 1)).seed == 2**63 - 1
