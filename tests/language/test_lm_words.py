"""Words of `proximo lm`: TRL's names for our options, files of options, and what is refused."""

from pathlib import Path

import pytest

from proximo.commands.lm_train import arguments_of, read
from proximo.core import (
    AsymmetricClip,
    Centred,
    Clip,
    ClippedSquaredError,
    ConservativeLoss,
    FixedKL,
    IPOLoss,
    SigmoidLoss,
    Standardised,
)
from proximo.errors import UserError
from proximo.language.running import COMMANDS
from proximo.language.train.options import GRPOOptions
from proximo.options import flat_name, flat_options, is_part, own_options
from proximo.words import GROUP, SAID_BY_OTHERS, Dialect

# ---- other libraries' command lines

# command, TRL's words -> our options by their flat names. Every alias stands here once.
KNOWN = [
    ("sft", "--model-name-or-path M", {"model": "M"}),
    ("sft", "--model_name_or_path=M", {"model": "M"}),
    ("sft", "--dataset-name D", {"data": "D"}),
    ("sft", "--train_file D", {"data": "D"}),
    ("sft", "--output_dir R", {"out": Path("R").absolute()}),  # whatever changes the folder later
    ("sft", "--learning_rate 3e-5", {"learning_rate": 3e-5}),
    ("sft", "--lr 3e-5", {"learning_rate": 3e-5}),
    ("sft", "--lr_scheduler_type cosine", {"schedule": "cosine"}),
    ("sft", "--lr_scheduler_type constant_with_warmup", {"schedule": "constant"}),
    ("sft", "--warmup_ratio 0.1", {"warmup": 0.1}),
    ("sft", "--weight_decay 0.1 --max_grad_norm 0.5", {"weight_decay": 0.1, "max_grad_norm": 0.5}),
    ("sft", "--bf16", {"precision": "bfloat16"}),
    ("sft", "--bf16 True", {"precision": "bfloat16"}),
    ("sft", "--bf16 false", {"precision": "float32"}),
    ("sft", "--no-bf16", {"precision": "float32"}),
    ("sft", "--torch_dtype bfloat16", {"precision": "bfloat16"}),
    ("sft", "--dtype auto", {"precision": "float32"}),
    ("sft", "--gradient_checkpointing True", {"gradient_checkpointing": True}),
    ("sft", "--gradient_checkpointing False", {"gradient_checkpointing": False}),
    ("sft", "--num_train_epochs 3 --packing", {"epochs": 3, "packing": True}),
    ("sft", "--max_length 128", {"length": 128}),
    ("sft", "--chat_template_path t.jinja", {"chat_template": Path("t.jinja").absolute()}),
    ("sft", "--max_seq_length 128", {"length": 128}),
    ("sft", "--completion_only_loss False", {"completion_only": False}),
    ("sft", "--per_device_train_batch_size 4", {"batch_size": 4}),
    # A step of ours learns from the whole batch: 4 rows, 8 times.
    ("sft", "--per_device_train_batch_size 4 --gradient_accumulation_steps 8", {"batch_size": 32}),
    ("sft", "--use_peft", {"lora_rank": 16, "lora_alpha": 32.0}),  # TRL's defaults
    ("sft", "--use_peft --lora_r 8", {"lora_rank": 8, "lora_alpha": 32.0}),
    ("sft", "--lora_r 8 --lora_alpha 8", {"lora_rank": 8, "lora_alpha": 8.0}),
    ("sft", "--use_peft False", {"lora_rank": 0}),
    ("sft", "--lora_target_modules q_proj o_proj", {"lora_targets": ("query", "output")}),
    (
        "sft",
        "--lora_target_modules c_attn c_proj",  # GPT-2's names
        {"lora_targets": ("query", "key", "value", "output", "down")},
    ),
    ("sft", "--lora_target_modules all-linear", {"lora_targets": ("all-linear",)}),
    ("sft", "--logging_steps 25 --report_to none --fp16 False --seed 3", {"seed": 3}),
    ("sft", "--report_to wandb", {"wandb": True}),
    ("sft", "--track --wandb_project_name p", {"wandb": True, "wandb_project": "p"}),  # CleanRL's
    ("grpo", "--report_to tensorboard wandb", {"tensorboard": True, "wandb": True}),
    ("ppo", "--report_to all", {"tensorboard": True, "wandb": True}),
    ("ppo", "--dataset_train_split train --stop_token eos --num_sample_generations 0 --seed 3", {"seed": 3}),
    ("reward", "--eval_strategy steps --eval_steps 50 --seed 3", {"seed": 3}),
    ("dpo", "--label_smoothing 0.1 --loss_type sigmoid", {"loss": ConservativeLoss(0.1)}),
    ("dpo", "--loss_type sigmoid --label_smoothing 0.1", {"loss": ConservativeLoss(0.1)}),
    ("reward", "--max_length 128 --num_train_epochs 2", {"length": 128, "epochs": 2}),
    ("reward", "--center_rewards_coefficient 0.01", {"center_rewards_coefficient": 0.01}),
    ("dpo", "--beta 0.2 --max_length 128", {"beta": 0.2, "length": 128}),
    ("dpo", "--loss_type sigmoid", {"loss": SigmoidLoss()}),
    ("dpo", "--loss_type ipo", {"loss": IPOLoss()}),
    ("dpo", "--label_smoothing 0.1", {"loss": ConservativeLoss(0.1)}),
    ("ppo", "--total_episodes 100", {"episodes": 100}),
    ("ppo", "--num_ppo_epochs 2 --num_mini_batches 4", {"epochs": 2, "minibatches": 4}),
    ("ppo", "--per_device_train_batch_size 8 --gradient_accumulation_steps 4", {"batch_size": 32}),
    ("ppo", "--response_length 53 --temperature 0.7", {"response_length": 53, "temperature": 0.7}),
    ("ppo", "--max_new_tokens 53 --max_prompt_length 9", {"response_length": 53, "prompt_length": 9}),
    ("ppo", "--sft_model_path S --model_name_or_path M", {"model": "S"}),  # M is but the tokenizer there
    ("ppo", "--reward_model_path R", {"reward_model": ("R",)}),
    ("ppo", "--reward_model_name_or_path R", {"reward_model": ("R",)}),
    ("ppo", "--reward_funcs m:f m:g", {"reward": ("m:f", "m:g")}),
    ("ppo", "--reward m:f --reward m:g", {"reward": ("m:f", "m:g")}),
    ("ppo", "--kl_coef 0.03", {"kl": FixedKL(0.03)}),
    ("ppo", "--cliprange 0.1", {"objective": Clip(0.1)}),
    ("ppo", "--clip 0.1", {"objective": Clip(0.1)}),
    ("ppo", "--cliprange_value 0.3", {"value_loss": ClippedSquaredError(0.3)}),
    (
        "ppo",
        "--vf_coef 0.5 --gamma 0.9 --lam 0.8",
        {"value_coefficient": 0.5, "gamma": 0.9, "gae_lambda": 0.8},
    ),
    ("ppo", "--missing_eos_penalty 1 --whiten_rewards", {"missing_eos_penalty": 1.0, "whiten_rewards": True}),
    ("grpo", "--num_generations 4 --max_completion_length 9", {"samples": 4, "response_length": 9}),
    # 32 responses in a batch are 8 prompts of 4, or 4 of 8.
    ("grpo", "--per_device_train_batch_size 32 --num_generations 4", {"batch_size": 8}),
    ("grpo", "--per_device_train_batch_size 32", {"batch_size": 4}),
    ("grpo", "--num_iterations 2 --beta 0.1", {"epochs": 2, "beta": 0.1}),
    ("grpo", "--epsilon 0.1", {"objective": Clip(0.1)}),
    ("grpo", "--epsilon 0.1 --epsilon_high 0.28", {"objective": AsymmetricClip(0.1, 0.28)}),
    ("grpo", "--epsilon_high 0.28", {"objective": AsymmetricClip(0.2, 0.28)}),
    ("grpo", "--loss_type dr_grpo --scale_rewards False", {"aggregation": "length", "advantage": Centred()}),
    (
        "grpo",
        "--loss_type dapo --scale_rewards group",
        {"aggregation": "tokens", "advantage": Standardised()},
    ),
    ("grpo", "--importance_sampling_level sequence", {"ratio": "sequence"}),
    ("grpo", "--mask_truncated_completions True", {"truncated": "mask"}),
]


def said_by(options):
    """Options by their flat names."""
    found = {}
    for name, option in own_options(type(options)).items():
        value = getattr(options, name)
        found |= said_by(value) if is_part(option) else {name: value}
    return found


def names_of(command, ours):
    return {ours, *flat_options(arguments_of(command))[flat_name(ours)].aliases}


def options_of(command, *words):
    said = {word.partition("=")[0].replace("_", "-") for word in words}
    missing = [] if said & names_of(command, "--model") else ["--model", "base"]
    missing += [] if said & names_of(command, "--data") else ["--data", "data.jsonl"]
    return said_by(read(command, [*missing, *words]).arguments.options)


@pytest.mark.parametrize(("command", "words", "expected"), KNOWN)
def test_a_known_command_line_means_the_same(command, words, expected):
    found = options_of(command, *words.split())
    assert {name: found[name] for name in expected} == expected


def test_a_value_stays_as_it_was_typed(tmp_path):
    found = options_of("ppo", "--dataset_name", "my own_data.jsonl", "--stop=--end")
    assert found["data"] == "my own_data.jsonl" and found["stop"] == ("--end",)


def test_every_alias_is_tried():
    tried = {word.partition("=")[0].replace("_", "-") for _, words, _ in KNOWN for word in words.split()}
    dialects = [Dialect(command, arguments_of(command)) for command in COMMANDS]
    assert {name for one in dialects for name in [*one.aliases, *one.converted, *one.together]} <= tried
    assert {name for one in dialects for name in one.converted} == {*SAID_BY_OTHERS} - {"--env-id"}


def test_an_alias_never_hides_an_option_of_ours():
    for command in COMMANDS:
        dialect = Dialect(command, arguments_of(command))
        assert not {*map(flat_name, dialect.others)} & {*dialect.options}, command
    assert GRPOOptions.__dataclass_fields__["sampling"].default_factory().samples == GROUP


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("sft", "--gradient_accumulation_steps 4", "--per-device-train-batch-size, which is missing"),
        ("sft", "--fp16", "--precision bfloat16"),
        ("ppo", "--num_train_epochs 1", "use --episodes"),
        ("grpo", "--max_steps 100", "use --episodes"),
        ("grpo", "--per_device_train_batch_size 12", "the 8 responses per prompt must divide that"),
        ("ppo", "--per_device_train_batch_size many", "'many' is not a whole number"),
        ("ppo", "--bf16 perhaps", "it is a switch"),
        ("ppo", "--kl_coef 1 2", "--kl-coef takes one value, not 2"),
        ("ppo", "--kl_coef much", "much"),
        ("ppo", "--use_vllm", "sampled in this process"),
        ("ppo", "--learn-rate 1", "--learning-rate"),
        (
            "sft",
            "--report_to trackio",
            "there are tensorboard and wandb; RUN/metrics.jsonl has every number",
        ),
        ("sft", "--max_steps 100", "use --epochs"),
        ("ppo", "--stop_token period", "EOS ends a response"),
        (
            "dpo",
            "--loss_type ipo --label_smoothing 0.1",
            "--loss-type and --label-smoothing both set --loss",
        ),
        ("ppo", "--kl adaptive-kl:6 --kl_coef 0.1", "--kl and --kl-coef both set --kl"),
        ("ppo", "--stop -- --seed 1", "-- stands alone"),
    ],
)
def test_what_has_no_counterpart_says_what_to_do(command, words, message):
    with pytest.raises(UserError) as error:
        options_of(command, *words.split())
    assert message in str(error.value) and "\n" not in str(error.value)


# ---- a file of options


def in_file(tmp_path, text, command, *words):
    (tmp_path / "options.toml").write_text(text)
    return options_of(command, "--config", str(tmp_path / "options.toml"), *words)


def test_a_file_says_what_could_be_typed(tmp_path):
    text = """
    learning-rate = 1e-4
    lora_rank = 4
    lora_targets = ["query", "up"]
    kl = "adaptive-kl:6"
    whiten_rewards = true
    cliprange = 0.1            # TRL's names too
    """
    found = in_file(tmp_path, text, "ppo")
    assert found["learning_rate"] == 1e-4 and found["lora_targets"] == ("query", "up")
    assert found["kl"].target == 6.0 and found["whiten_rewards"] and found["objective"] == Clip(0.1)


def test_what_is_typed_wins_over_the_file(tmp_path):
    text = 'seed = 3\nlora_targets = ["up"]\npacking = false\nepochs = 2'
    found = in_file(tmp_path, text, "sft", "--seed", "4", "--packing", "--lora-targets", "query")
    assert (found["seed"], found["packing"], found["epochs"]) == (4, True, 2)
    assert found["lora_targets"] == ("query",)  # not both
    # Two names of one option are one option.
    assert in_file(tmp_path, "cliprange = 0.1", "ppo", "--objective", "clip:0.3")["objective"] == Clip(0.3)
    assert in_file(tmp_path, "objective = 'clip:0.3'", "ppo", "--cliprange", "0.1")["objective"] == Clip(0.1)


def test_a_reward_function_in_a_file_is_confirmed_by_hand(tmp_path):
    # A name there is code that would run: the file may have come from anybody.
    for key in ("reward", "reward-funcs"):
        with pytest.raises(
            UserError, match="a file may not import code: confirm it by typing --reward m:f m:g"
        ):
            in_file(tmp_path, f'{key} = ["m:f", "m:g"]', "ppo")
    assert in_file(tmp_path, 'reward = "m:f"', "ppo", "--reward", "m:f")["reward"] == ("m:f",)
    assert in_file(tmp_path, 'reward_model = "R"', "ppo")["reward_model"] == ("R",)  # a folder: no code


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learn_rate = 1", "there is no option 'learn_rate'; the nearest: learning_rate"),
        ("epsilom = 1", "the nearest: epsilon"),
        ("resume = 'run'", "there is no option 'resume'"),
        ("[optimisation]\nlearning_rate = 1", "[optimisation] is a table"),
        ("learning_rate = ", "is not TOML"),
        ("learning_rate = 'much'", "much"),
        ("num_train_epochs = 1", "use --episodes"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path, text, message):
    with pytest.raises(UserError) as error:
        in_file(tmp_path, text, "grpo")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    for words in (["--config", str(tmp_path / "no.toml")], ["--config"], ["--config", "a", "b"]):
        with pytest.raises(UserError, match="--config"):
            options_of("sft", *words)
