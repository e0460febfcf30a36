"""What a reward model thinks of a language model as it is: where its scores get their zero and their unit."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from proximo.errors import UserError
from proximo.language.model.heads import RewardModel
from proximo.language.model.transformer import Transformer
from proximo.language.text.data import Ids, Prompt
from proximo.language.text.tokenizer import Tokenizer
from proximo.language.train.options import SamplingOptions
from proximo.language.train.rollout import Rollouts

SAMPLES = 512  # their mean is known to 0.04 of their standard deviation


class ReferenceSamples:
    """Answers of a language model to the prompts of a reward model's data.

    reference   the language model
    tokenizer   of both
    prompts     ids of each; those that leave no room for an answer are not asked
    length      most tokens of an answer
    batch_size  answers that are drawn at once
    seed        of the draw

    Raises UserError where no prompt leaves room.
    """

    def __init__(
        self,
        reference: Transformer,
        tokenizer: Tokenizer,
        prompts: Sequence[Ids],
        length: int,
        batch_size: int,
        seed: int,
    ) -> None:
        room = reference.config.context - length
        asked = list(dict.fromkeys(tuple(map(int, ids)) for ids in prompts if len(ids) <= room))
        if not asked:
            raise UserError(
                f"sample_length is {length}: no prompt leaves so much room in a context of "
                f"{reference.config.context} tokens"
            )
        self.reference, self.tokenizer, self.seed = reference, tokenizer, seed
        self.prompts = [
            Prompt(np.array(ids, np.int32), "", {}, line, "") for line, ids in enumerate(asked, 1)
        ]
        self.sampling = SamplingOptions(response_length=length, batch_size=batch_size)

    def scores(
        self, model: RewardModel, micro_batch_tokens: int | None = None
    ) -> Float[np.ndarray, "samples"]:
        """The scores of about SAMPLES answers, always the same ones. Arguments as of `model_scores`."""
        rollouts = Rollouts(
            self.prompts,
            self.tokenizer,
            self.sampling,
            (),
            {"score": model},
            (1.0,),
            self.seed,
            micro_batch_tokens=micro_batch_tokens,
        )
        batches = range(-(-SAMPLES // self.sampling.batch_size))
        return np.concatenate([rollouts.collected(self.reference, number).score for number in batches])
