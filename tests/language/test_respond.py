"""Answers to prompts, and the programs that draw them."""

from policies import PROMPTS, TOKENIZER, options, rollouts
from small_models import small_model

from proximo.language.model import sampler
from proximo.language.train.respond import GenerationOptions, answers, prompts_of

MODEL = small_model(vocabulary=TOKENIZER.vocab_size, layers=1)


def programs():
    """How many were compiled for sampling in this process."""
    return sampler._sample.compiled._cache_size()


def texts(*prompts):
    drawing = GenerationOptions(max_new_tokens=5, batch_size=2, samples=2)
    asked = prompts_of([{"prompt": text} for text in prompts], MODEL.config, TOKENIZER, drawing)
    return list(answers(MODEL, TOKENIZER, asked.records, drawing))


def test_prompts_of_any_length_are_answered_by_one_program():
    first = texts("ab", "c", "defghij")  # the last batch has one prompt
    before = programs()
    again = texts("aaaa", "hijklm", "m", "abcdef", "c")
    assert programs() == before
    assert [one.prompt for one in first] == ["ab", "ab", "c", "c", "defghij", "defghij"]
    assert len(again) == 10 and all(1 <= one.tokens <= 5 for one in first + again)


def test_iterations_sample_with_one_program():
    source = rollouts(options())
    source.collect(MODEL, 0)
    before = programs()
    widths = {source.collect(MODEL, number).width for number in (1, 2)}
    assert programs() == before and len({len(prompt.ids) for prompt in PROMPTS}) == 4
    assert widths == {8}  # of prompts of 1 to 4 tokens
