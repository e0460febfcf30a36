"""At which token to read the score of a reward model that another library trained.

Our reward models are trained at an answer's end token. `transformers` trains them at a text's last token that
is not PAD. In a conversation that is a token that the chat template writes after the answer, such as the line
break after `<|im_end|>`. If PAD is also the end token, it is the token before the end. A score read at
another token is meaningless.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from proximo.errors import UserError
from proximo.language.files.adapter_files import base_folder
from proximo.language.files.folder import is_own_reward_model
from proximo.language.model.heads import RewardModel
from proximo.language.text.templates import Messages
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.text.tokenizer_files import read_description
from proximo.language.train.responses import Responses

ASKED: Messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]


@dataclass(frozen=True)
class RewardReadout:
    """How to read a reward model that another library trained."""

    # what its chat template writes after an answer, including the end token; None without a template
    closing: tuple[int, ...] | None
    eos_ids: tuple[int, ...]  # end tokens of a response, which it replaces
    notes: tuple[str, ...]  # remarks for the user, a line each

    def closed(self, ids: Iterable[int]) -> list[int]:
        """An answer in a conversation, in the form that the model was trained on."""
        found = [int(id) for id in ids]
        if self.closing is None:
            return found
        if found and found[-1] in self.eos_ids:
            found = found[:-1]
        there = (
            len(self.closing) <= len(found) and tuple(found[len(found) - len(self.closing) :]) == self.closing
        )
        return found if there else [*found, *self.closing]

    def closed_batch(self, responses: Responses, width: int, conversations: Sequence[bool]) -> Responses:
        """A batch with the answers in this form, in rows whose prompt is a conversation.

        width  columns of the prompts
        """
        ids, lengths = np.asarray(responses.ids), np.array(responses.lengths)
        wide = np.pad(ids, ((0, 0), (0, len(self.closing or ()))))
        for row in np.flatnonzero(conversations):
            answer = self.closed(ids[row, width : width + lengths[row]])
            lengths[row] = len(answer)
            wide[row, width : width + len(answer)] = answer
        return responses._replace(ids=jnp.asarray(wide), lengths=jnp.asarray(lengths))


def reading_of(folder: str, model: RewardModel, tokenizer: Tokenizer) -> RewardReadout | None:
    """How to read a reward model; None for one of ours, which is read at an answer's last token.

    tokenizer  the policy's; its chat template is used if the folder has none
    """
    if is_own_reward_model(folder):
        return None
    template = read_description(Path(base_folder(folder))).template
    notes = []
    if template is not None and template != tokenizer.template:
        notes = [f"{folder} has another chat template than the policy; it gets texts in the policy's"]
    closing = _closing(tokenizer if template is None else replace(tokenizer, template=template))
    at = "the last token"
    if model.pad_id is not None and 0 <= model.pad_id < tokenizer.vocab_size:
        at += f" that is not {tokenizer.decode([model.pad_id], skip_special=False)!r}"
    how = f"{folder} was not trained by Proximo: it scores a text at {at}"
    if closing is not None:
        behind = tokenizer.decode(closing, skip_special=False)
        how += f", and a conversation with {behind!r} after the answer, as its chat template writes it"
    return RewardReadout(closing, tokenizer.eos_ids, (how, *notes))


def _closing(tokenizer: Tokenizer) -> tuple[int, ...] | None:
    """What the template writes after the last answer; None if that is unknown."""
    try:
        _, answer, behind = tokenizer.chat(ASKED, False).rpartition(str(ASKED[-1]["content"]))
        # A blank before the end token belongs to the answer, where a policy learned to write it.
        ids = tokenizer.encode(behind.lstrip(" ")) if behind.strip(" ") else []
    except UserError:  # no template, or one that takes other messages than these
        return None
    return tuple(ids) if answer else None
