"""TRL's PPO, and decoding by transformers: `python -m benchmarks.worker_trl SHAPE ppo|decode [THREADS]`."""

import copy
import tempfile
from collections.abc import Callable

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer

from benchmarks import serve
from benchmarks.language_task import (
    BATCH,
    EPOCHS,
    KL,
    LEARNING_RATE,
    RESPONSE,
    VALUE_COEFFICIENT,
    Shape,
    asked,
)


def tokenizer(shape: Shape) -> PreTrainedTokenizerFast:
    """A word for each id, and two that the models have not."""
    words = {f"t{index}": index for index in range(shape.vocabulary)}
    special = {"<pad>": shape.pad_id, "<eos>": shape.eos_id}
    backend = Tokenizer(WordLevel(words | special, unk_token="t0"))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def options(folder: str) -> PPOConfig:
    """The task's; everything else that costs time is off."""
    return PPOConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=1,
        num_mini_batches=1,
        num_ppo_epochs=EPOCHS,
        local_rollout_forward_batch_size=BATCH,
        response_length=RESPONSE,
        stop_token=None,
        temperature=1.0,
        total_episodes=BATCH,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        kl_coef=KL,
        vf_coef=VALUE_COEFFICIENT,
        num_sample_generations=0,
        report_to="none",
        save_strategy="no",
        eval_strategy="no",
        disable_tqdm=True,
    )


def ppo(shape: Shape, folder: str) -> Callable[[int], int]:
    """`train` for `serve`: the public `train`, one call for all iterations.

    It goes on where it stopped, with the same optimiser and schedule; what a call costs besides its
    iterations is a few callbacks.
    """
    config = GPT2Config(**shape.config())
    scorer = GPT2Config(**shape.config(), num_labels=1)
    policy, prompts = GPT2LMHeadModel(config), Dataset.from_dict({"input_ids": shape.prompts()})
    trainer = PPOTrainer(
        args=options(folder),
        processing_class=tokenizer(shape),
        model=policy,
        ref_model=copy.deepcopy(policy),
        reward_model=GPT2ForSequenceClassification(scorer),
        value_model=GPT2ForSequenceClassification(scorer),
        train_dataset=prompts,
        eval_dataset=prompts,
    )

    def train(iterations: int) -> int:
        trainer.args.num_total_batches = iterations
        trainer.train()
        assert trainer.state.global_step == iterations
        return iterations * BATCH * RESPONSE

    return train


def decode(shape: Shape) -> Callable[[int], int]:
    """`train` for `serve`: samples responses to one batch of prompts."""
    model = GPT2LMHeadModel(GPT2Config(**shape.config())).eval()
    prompts = torch.tensor(shape.prompts()[:BATCH])

    def train(iterations: int) -> int:
        tokens = 0
        for _ in range(iterations):
            with torch.inference_mode():
                whole = model.generate(
                    prompts,
                    attention_mask=torch.ones_like(prompts),
                    do_sample=True,
                    top_k=0,
                    max_new_tokens=RESPONSE,
                    pad_token_id=shape.pad_id,
                    use_cache=True,
                )
            tokens += whole[:, prompts.shape[1] :].numel()
        assert tokens == iterations * BATCH * RESPONSE
        return tokens

    return train


def main() -> None:
    shape, task, words = asked()
    if words:
        torch.set_num_threads(int(words[0]))
    torch.manual_seed(0)
    packages = ("trl", "transformers", "torch", "accelerate", "numpy")
    with tempfile.TemporaryDirectory() as folder:
        train = ppo(shape, folder) if task == "ppo" else decode(shape)
        serve(train, packages, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
