"""TRL's names for the options of `proximo lm`, so that a known command line works.

A template stands for the words to say instead; `{}` is the value. One without `{}` is a switch: it is
said where the value is true or missing, and left out where it is false.
"""

SHARED = {  # by all commands that train
    "--model-name-or-path": "--model {}",
    "--dataset-name": "--data {}",
    "--train-file": "--data {}",
    "--output-dir": "--out {}",
    "--lr-scheduler-type": "--schedule {}",
    "--warmup-ratio": "--warmup {}",
    "--lora-r": "--lora-rank {}",
    "--lora-target-modules": "--lora-targets {}",
    "--bf16": "--precision bfloat16",
    "--torch-dtype": "--precision {}",
    "--dtype": "--precision {}",
}
LABELLED = {
    "--num-train-epochs": "--epochs {}",
    "--max-length": "--length {}",
    "--max-seq-length": "--length {}",
}
SAMPLED = {
    "--clip": "--objective clip:{}",
    "--total-episodes": "--episodes {}",
    "--max-new-tokens": "--response-length {}",
    "--max-prompt-length": "--prompt-length {}",
    "--reward-funcs": "--reward {}",
    "--reward-model-path": "--reward-model {}",
    "--reward-model-name-or-path": "--reward-model {}",
}
ALIASES: dict[str, dict[str, str]] = {
    "sft": SHARED
    | LABELLED
    | {"--completion-only-loss": "--completion-only {}", "--chat-template-path": "--chat-template {}"},
    "reward": SHARED | LABELLED | {"--chat-template-path": "--chat-template {}"},
    "dpo": SHARED
    | LABELLED
    | {"--loss-type": "--loss {}", "--label-smoothing": "--loss conservative-loss:{}"},
    "ppo": SHARED
    | SAMPLED
    | {
        "--sft-model-path": "--model {}",
        "--num-ppo-epochs": "--epochs {}",
        "--num-mini-batches": "--minibatches {}",
        "--kl-coef": "--kl fixed-kl:{}",
        "--cliprange": "--objective clip:{}",
        "--cliprange-value": "--value-loss clipped-squared-error:{}",
        "--vf-coef": "--value-coefficient {}",
        "--lam": "--gae-lambda {}",
    },
    "grpo": SHARED
    | SAMPLED
    | {
        "--num-iterations": "--epochs {}",
        "--max-completion-length": "--response-length {}",
        "--num-generations": "--samples {}",
        "--epsilon": "--objective clip:{}",
        "--loss-type": "--aggregation {}",
        "--scale-rewards": "--advantage {}",
        "--importance-sampling-level": "--ratio {}",
        "--mask-truncated-completions": "--truncated mask",
    },
    "generate": {
        "--model-name-or-path": "--model {}",
        "--dataset-name": "--data {}",
        "--response-length": "--max-new-tokens {}",
        "--max-completion-length": "--max-new-tokens {}",
        "--num-generations": "--samples {}",
        "--num-return-sequences": "--samples {}",
    },
    "eval": {
        "--model-name-or-path": "--model {}",
        "--dataset-name": "--data {}",
        "--max-new-tokens": "--response-length {}",
        "--max-completion-length": "--response-length {}",
        "--num-generations": "--samples {}",
        "--max-length": "--length {}",
        "--reward-funcs": "--reward {}",
        "--reward-model-path": "--reward-model {}",
    },
}

ATTENTION_AND_MLP = {
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "o_proj": "output",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
    "c_attn": "query key value",  # GPT-2's
    "c_fc": "up",
    "c_proj": "output down",
}
VALUES: dict[str, dict[str, str]] = {  # what their values are called here
    "--lora-targets": ATTENTION_AND_MLP,
    "--lora-target-modules": ATTENTION_AND_MLP,
    "--lr-scheduler-type": {"constant_with_warmup": "constant"},
    "--torch-dtype": {"auto": "float32"},
    "--dtype": {"auto": "float32"},
    "--scale-rewards": {
        "true": "standardised",
        "group": "standardised",
        "false": "centred",
        "none": "centred",
    },
}
LOSS_TYPES: dict[str, dict[str, str]] = {
    "dpo": {"sigmoid": "sigmoid-loss", "ipo": "ipo-loss"},
    "grpo": {"grpo": "sequences", "dapo": "tokens", "bnpo": "tokens", "dr_grpo": "length"},
}
REPORTS = ("tensorboard", "wandb")  # those of --report-to
PEFT = {"--lora-rank": "16", "--lora-alpha": "32"}  # what --use-peft alone means to TRL
BATCH, PARTS = "--per-device-train-batch-size", "--gradient-accumulation-steps"
GROUP = 8  # samples of a prompt in GRPO, TRL's default and ours
