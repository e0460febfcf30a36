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
    "sft": SHARED | LABELLED | {"--completion-only-loss": "--completion-only {}"},
    "reward": SHARED | LABELLED,
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

HARMLESS: dict[str, tuple[str, ...]] = {  # TRL's, with these values or with any: nothing to do here
    "--attn-implementation": (),
    "--dataset-num-proc": (),
    "--dataset-test-split": (),
    "--dataset-train-split": (),
    "--eval-steps": (),
    "--eval-strategy": (),
    "--fp16": ("false",),
    "--kl-estimator": ("k1",),
    "--load-in-4bit": ("false",),
    "--load-in-8bit": ("false",),
    "--local-rollout-forward-batch-size": (),  # how TRL saves memory; here --micro-batch-tokens does
    "--logging-first-step": (),
    "--logging-steps": (),
    "--logging-strategy": (),
    "--lora-dropout": ("0", "0.0"),
    "--lora-task-type": (),
    "--max-steps": ("-1",),
    "--num-sample-generations": (),
    "--optim": ("adamw_torch", "adamw_torch_fused", "adamw"),
    "--per-device-eval-batch-size": (),
    "--push-to-hub": ("false",),
    "--repetition-penalty": ("1", "1.0"),
    "--report-to": ("none",),
    "--save-strategy": ("no", "epoch", "steps"),
    "--stop-token": ("eos",),
    "--trust-remote-code": ("false",),
    "--use-liger-kernel": (),
    "--use-vllm": ("false",),
    "--warmup-steps": ("0",),
}
COUNTED = "responses are counted here: say --episodes (passes x prompts x samples)"
REFUSED: dict[str, str] = {  # what has no counterpart, and what to say instead
    "--fp16": "16-bit floats overflow: say --precision bfloat16",
    PARTS: f"it multiplies {BATCH}, which is missing: say that too, or --batch-size and, for memory, "
    "--micro-batch-tokens",
    "--load-in-4bit": "quantised weights are not supported: say --lora-rank and --precision bfloat16",
    "--load-in-8bit": "quantised weights are not supported: say --lora-rank and --precision bfloat16",
    "--lora-dropout": "adapters have no dropout: leave it out",
    "--push-to-hub": "nothing is uploaded: RUN/model is a folder as the Hub has them",
    "--kl-estimator": "a token's price is log pi - log pi_ref, which is k1; GRPO has --kl-estimate",
    "--max-steps": "say --epochs",
    "--optim": "Adam with decoupled weight decay is the optimiser: leave it out",
    "--repetition-penalty": "it would bias the ratio to the policy that answered: leave it out",
    "--resume-from-checkpoint": "say --resume RUN alone",
    "--save-strategy": "say --checkpoint-every, in seconds",
    "--stop-token": "the tokenizer's EOS ends a response: say --eos-token, or --stop for texts",
    "--trust-remote-code": "nothing in a model's folder is executed: leave it out",
    "--warmup-steps": "say --warmup, as a share of the run",
    "--save-steps": "say --checkpoint-every, in seconds",
    "--use-vllm": "responses are drawn in this process: leave it out",
}
REFUSED_BY: dict[str, dict[str, str]] = {
    "sft": {"--assistant-only-loss": "say --completion-only"},
    "dpo": {"--max-prompt-length": "say --length, of prompt and answer together"},
    "ppo": {"--num-train-epochs": COUNTED, "--max-steps": COUNTED},
    "grpo": {
        "--delta": "say --objective dual-clip:EPSILON,DELTA",
        "--max-steps": COUNTED,
        "--num-train-epochs": COUNTED,
        "--steps-per-generation": "say --minibatches",
    },
}
