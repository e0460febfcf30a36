"""Reward models that were trained elsewhere: scored where `transformers` scores them."""

from dataclasses import replace

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policies import options
from small_models import small_model
from workplace import lines

import proximo.language as language
from proximo.errors import UserError
from proximo.language.files.folder import load_reward_model, save_model, save_reward_model
from proximo.language.files.model_options import ModelOptions
from proximo.language.model.heads import new_reward_model
from proximo.language.text.tokenizer import character_tokenizer
from proximo.language.train.building import sampling_trainer
from proximo.language.train.options import RewardOptions
from proximo.language.train.reading import RewardReadout
from proximo.runs.sealed import write_bytes

# As ChatML: the template ends an answer with EOS and a line break, which TRL's trainer scores at.
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}:{% else %}{{ m.content }}<eos>\n"
    "{% endif %}{% endfor %}"
)
TOKENIZER = replace(character_tokenizer("0123456789 abqw:\nestionr"), template=TEMPLATE)
ASK = [{"role": "user", "content": "12"}]


def their_reward_model(folder, pad_id, template=TEMPLATE):
    """A random one of transformers', with our tokenizer beside it."""
    size = TOKENIZER.vocab_size
    config = families.LLAMA | {"vocab_size": size, "pad_token_id": pad_id, "eos_token_id": 1}
    theirs = families.their_model(config, folder, "AutoModelForSequenceClassification")
    for name, content in replace(TOKENIZER, template=template).files().items():
        write_bytes(folder / "theirs" / name, content)
    return theirs, str(folder / "theirs")


def their_score(theirs, ids):
    import torch

    with torch.no_grad():
        return theirs(input_ids=torch.tensor([ids]), use_cache=False).logits[0, 0].item()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reading")
    policy = small_model(vocabulary=TOKENIZER.vocab_size, layers=1)
    save_model(folder / "base", policy, TOKENIZER)
    lines(folder / "talk.jsonl", [{"prompt": ASK}])
    lines(folder / "text.jsonl", [{"prompt": "12"}])
    return folder


def rollout(place, reward_model, data):
    """Sixteen answers, some of which end by themselves, and the trainer's notes."""
    asked = options(
        data=str(place / data),
        model=ModelOptions(model=str(place / "base")),
        sampling=dict(response_length=8, batch_size=1, samples=16),
        rewards=RewardOptions(reward_model=(reward_model,)),
    )
    trainer = sampling_trainer(asked)
    found = trainer.rollouts.collect(trainer.reference, 0)
    finished = np.asarray(found.responses.finished)
    assert finished.any() and not finished.all()
    return found, trainer.notes


def answers_of(found):
    for row, length in enumerate(found.responses.lengths):
        yield np.asarray(found.responses.ids)[row, found.width : found.width + int(length)].tolist()


@pytest.mark.parametrize("pad_id", [0, 1], ids=["pad", "pad is eos"])
def test_a_conversation_is_scored_where_its_template_ends(place, tmp_path, pad_id):
    theirs, folder = their_reward_model(tmp_path, pad_id)
    found, notes = rollout(place, folder, "talk.jsonl")
    for answer, score in zip(answers_of(found), found.score, strict=True):
        text = TOKENIZER.decode(answer)  # without its end token, as TRL hands it to the template
        whole = TOKENIZER.encode(TOKENIZER.chat([*ASK, {"role": "assistant", "content": text}], False))
        assert whole[-2:] == TOKENIZER.encode("<eos>\n")
        if 0 not in answer and TOKENIZER.bos_id not in answer:  # a random model writes PAD in a text too
            assert score == pytest.approx(their_score(theirs, whole), abs=1e-4)
    pad = {0: "<pad>", 1: "<eos>"}[pad_id]
    assert notes[-1] == (
        f"{folder} was not trained by Proximo: it scores a text at the last token that is not '{pad}', "
        r"and a conversation with '<eos>\n' after the answer, as its chat template writes it"
    )


def test_a_text_is_scored_at_its_last_token_that_is_not_pad(place, tmp_path):
    """PAD is EOS in many files of the Hub: then an answer's score stands before its end."""
    theirs, folder = their_reward_model(tmp_path, 1)
    found, _ = rollout(place, folder, "text.jsonl")
    prompt = TOKENIZER.encode("12")
    for answer, score in zip(answers_of(found), found.score, strict=True):
        assert score == pytest.approx(their_score(theirs, [*prompt, *answer]), abs=1e-4)


@pytest.mark.parametrize("pad_id", [None, 0, 1])
def test_padding_on_either_side_changes_no_score(tmp_path, pad_id):
    theirs, folder = their_reward_model(tmp_path, pad_id)
    model = load_reward_model(folder)
    text = [5, 6, 7, 1]
    expected = their_score(theirs, text)
    for ids, there in (
        (text, [1] * 4),
        ([9, 9, *text], [0, 0, 1, 1, 1, 1]),
        ([*text, 9], [1, 1, 1, 1, 0]),
    ):
        found = model.scores(jnp.array([ids]), jnp.array([there]))
        assert float(found[0]) == pytest.approx(expected, abs=1e-4)


def test_preferences_are_scored_so_too(place, tmp_path):
    theirs, folder = their_reward_model(tmp_path, 0)
    answers = ["3", "45", "a b", "6"]
    pairs = [(one, other) for one in answers for other in answers if one != other]
    said = {
        text: their_score(
            theirs,
            TOKENIZER.encode(TOKENIZER.chat([*ASK, {"role": "assistant", "content": text}], False)),
        )
        for text in answers
    }
    spoken = {text: [{"role": "assistant", "content": text}] for text in answers}
    records = [{"prompt": ASK, "chosen": spoken[one], "rejected": spoken[other]} for one, other in pairs[:7]]
    data = lines(place / "pairs.jsonl", records)
    found = language.evaluate(model=folder, data=str(data))
    assert found["margin"] == pytest.approx(
        np.mean([said[one] - said[other] for one, other in pairs[:7]]), abs=1e-4
    )
    assert found["accuracy"] == pytest.approx(np.mean([said[one] > said[other] for one, other in pairs[:7]]))
    assert "was not trained by Proximo" in found["notes"][-1]


def test_one_of_ours_is_read_at_the_end_token_as_it_learned(place, tmp_path):
    trunk = small_model(vocabulary=TOKENIZER.vocab_size, layers=1)
    save_reward_model(tmp_path / "ours", new_reward_model(trunk, jax.random.key(0)), TOKENIZER)
    found, notes = rollout(place, str(tmp_path / "ours"), "talk.jsonl")
    model = load_reward_model(tmp_path / "ours")
    for row, answer in enumerate(answers_of(found)):
        ids = jnp.array([[*TOKENIZER.encode("12:"), *answer]])
        assert found.score[row] == pytest.approx(float(model.scores(ids)[0]), abs=1e-4)
    assert not any("trained by Proximo" in note for note in notes)


def test_another_template_is_told_and_its_ending_taken(place, tmp_path):
    _, folder = their_reward_model(tmp_path, 0, template=TEMPLATE.replace("<eos>\n", "<eos>"))
    _, notes = rollout(place, folder, "talk.jsonl")
    assert "a conversation with '<eos>' after the answer" in notes[-2]
    assert notes[-1].startswith(f"{folder} has another chat template than the policy")


def test_without_a_template_the_note_says_where_the_score_is_read(place, tmp_path):
    _, folder = their_reward_model(tmp_path, 0, template=None)
    save_model(
        tmp_path / "base",
        small_model(vocabulary=TOKENIZER.vocab_size, layers=1),
        replace(TOKENIZER, template=None),
    )
    lines(tmp_path / "text.jsonl", [{"prompt": "12"}])
    _, notes = rollout(tmp_path, folder, "text.jsonl")
    assert (
        notes[-1]
        == f"{folder} was not trained by Proximo: it scores a text at the last token that is not '<pad>'"
    )


def test_an_answer_gets_the_templates_end_in_the_place_of_its_own():
    reading = RewardReadout(closing=(1, 9), eos_ids=(1, 2), notes=())
    assert reading.closed([5, 6, 1]) == reading.closed([5, 6, 2]) == reading.closed([5, 6]) == [5, 6, 1, 9]
    assert reading.closed([1]) == [1, 9]
    # A base model's own end behind the template's, as sft teaches where the two are not the same.
    assert reading.closed([5, 1, 9, 2]) == [5, 1, 9]
    # A template that ends with the answer: it was learned without an end.
    assert RewardReadout((), (1,), ()).closed([5, 6, 1]) == [5, 6]
    assert RewardReadout(None, (1,), ()).closed([5, 6, 1]) == [5, 6, 1]


def test_a_pad_that_is_no_id_is_told(tmp_path):
    _, folder = their_reward_model(tmp_path, 0)
    place = tmp_path / "theirs" / "config.json"
    place.write_text(place.read_text().replace('"pad_token_id": 0', '"pad_token_id": "<pad>"'))
    with pytest.raises(UserError, match="pad_token_id is '<pad>', not a token's id"):
        load_reward_model(folder)
