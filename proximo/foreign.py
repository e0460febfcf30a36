"""Options of other libraries without a counterpart here: those that ask for nothing, and what to say instead.

Names of options that we have too stand beside these (`proximo.options.also`), and those that are said by
other words in `proximo.words`. A word that is in none of the three is unknown: nothing that was typed is
passed over.
"""

TRAINED = ("sft", "reward", "ppo", "dpo", "grpo")
BATCH, PARTS = "--per-device-train-batch-size", "--gradient-accumulation-steps"


def harmless(command: str) -> dict[str, tuple[str, ...]]:
    """Options that ask for nothing of a command -> with which values; () for any."""
    return HARMLESS | HARMLESS_BY.get(command, {}) if command in TRAINED else {}


def refused(command: str) -> dict[str, str]:
    """Options that a command has no counterpart of -> what to say instead."""
    return (REFUSED if command in TRAINED else {}) | REFUSED_BY.get(command, {})


def _named(words: str) -> list[str]:
    return [f"--{word}" for word in words.split()]


NOTHING = _named(  # with any value: another machine's business, or done here in any case
    """
    attn-implementation ignore-bias-buffers router-aux-loss-coef lora-task-type
    dataset-num-proc dataset-batch-size dataset-train-split dataset-test-split remove-unused-columns
    do-train do-eval eval-steps eval-strategy evaluation-strategy eval-delay eval-packing
    eval-accumulation-steps eval-do-concat-batches eval-use-gather-object include-for-metrics
    batch-eval-metrics prediction-loss-only per-device-eval-batch-size num-generations-eval
    metric-for-best-model greater-is-better
    logging-steps logging-strategy logging-first-step logging-dir logging-nan-inf-filter log-level
    log-level-replica log-on-each-node disable-tqdm run-name project include-num-input-tokens-seen
    trackio-space-id trackio-bucket-id trackio-static-space-id skip-memory-metrics
    log-completions log-multimodal log-unique-prompts num-completions-to-print num-sample-generations
    save-total-limit save-only-model save-on-each-node save-safetensors enable-jit-checkpoint
    restore-callback-states-from-checkpoint full-determinism
    hub-model-id hub-token hub-private-repo hub-strategy hub-always-push hub-revision
    tf32 use-liger-kernel liger-kernel-config torch-compile torch-compile-backend torch-compile-mode
    torch-empty-cache-steps activation-offloading activation-checkpointing activation-checkpointing-kwargs
    gradient-checkpointing-kwargs use-cache cache-implementation cast-lm-head-to-fp32
    average-tokens-across-devices padding-free pad-to-multiple-of use-logits-to-keep padding-value
    dataloader-num-workers dataloader-pin-memory dataloader-persistent-workers dataloader-in-order
    dataloader-prefetch-factor dataloader-multiprocessing-context
    ddp-find-unused-parameters ddp-bucket-cap-mb ddp-broadcast-buffers ddp-static-graph ddp-backend
    ddp-timeout ds3-gather-for-generation local-rank
    local-rollout-forward-batch-size use-transformers-continuous-batching use-transformers-paged
    transformers-continuous-batching-config
    precompute-ref-log-probs precompute-ref-batch-size
    bnb-4bit-quant-type bnb-4bit-quant-storage use-bnb-nested-quant
    ref-model-mixup-alpha ref-model-sync-steps f-alpha-divergence-coef discopop-tau
    entropy-coef-min entropy-coef-max entropy-coef-delta entropy-target
    """
)
OFF = _named(  # where they are off
    """
    assistant-only-loss auto-find-batch-size bf16-full-eval dataloader-drop-last dataset-streaming do-predict
    eval-on-start fp16 fp16-full-eval ignore-data-skip is-encoder-decoder load-best-model-at-end load-in-4bit
    load-in-8bit overwrite-output-dir push-to-hub reference-free sync-ref-model trust-remote-code
    use-adaptive-entropy use-bias-correction-kl use-cpu no-cuda use-dora use-rslora use-vllm use-weighting
    force-use-ref-model
    """
)
HARMLESS: dict[str, tuple[str, ...]] = {  # with these values, or with any: nothing to do here
    **dict.fromkeys(NOTHING, ()),
    **dict.fromkeys(OFF, ("false",)),
    "--disable-dropout": ("true",),
    "--entropy-coef": ("0", "0.0"),
    "--f-divergence-type": ("reverse_kl",),
    "--kl-estimator": ("k1",),
    "--label-smoothing-factor": ("0", "0.0"),
    "--lora-dropout": ("0", "0.0"),
    "--max-steps": ("-1",),
    "--min-p": ("0", "0.0"),
    "--model-revision": ("main",),
    "--multi-objective-aggregation": ("sum_then_normalize",),
    "--optim": ("adamw_torch", "adamw_torch_fused", "adamw"),
    "--packing-strategy": ("bfd",),
    "--repetition-penalty": ("1", "1.0"),
    "--report-to": ("none",),
    "--save-strategy": ("no", "epoch", "steps"),
    "--shuffle-dataset": ("true",),
    "--stop-token": ("eos",),
    "--top-entropy-quantile": ("1", "1.0"),
    "--train-sampling-strategy": ("random",),
    "--truncation-mode": ("keep_start",),
    "--warmup-steps": ("0",),
}
HARMLESS_BY: dict[str, dict[str, tuple[str, ...]]] = {
    "sft": {
        "--dataset-text-field": ("text",),
        "--loss-type": ("nll", "chunked_nll"),
        "--shuffle-dataset": (),  # TRL shuffles there in any case
    },
}

PARALLEL = "say --data-parallel and --model-parallel, which share the work among devices"
QUANTISED = "quantised weights are not supported: say --lora-rank and --precision bfloat16"
UPLOADED = "nothing is uploaded: RUN/model is a folder as the Hub has them"
DRAWN_HERE = "responses are drawn in this process: leave it out"
ADAPTED = "adapters go to the layers' maps: say --lora-targets"
REFERENCE = "the reference is the model that the run begins from: leave it out"
OBJECTIVE = "there is no such loss: say --objective"
DPO_LOSS = "there is no such loss: say --loss"
BIASED = "it would bias the ratio to the policy that answered: leave it out"
BATCHES = "say --batch-size, and --minibatches for the steps that it is cut into"
COUNTED = "responses are counted here: say --episodes (passes x prompts x samples)"
ON_CPU = "JAX chooses the device: set JAX_PLATFORMS=cpu"


def _said(sentence: str, words: str) -> dict[str, str]:
    return dict.fromkeys(_named(words), sentence)


REFUSED: dict[str, str] = {  # and what to say instead
    PARTS: f"it multiplies {BATCH}, which is missing: say that too, or --batch-size and, for memory, "
    "--micro-batch-tokens",
    **_said(PARALLEL, "deepspeed fsdp fsdp-config accelerator-config parallelism-config num-processes"),
    **_said(QUANTISED, "load-in-4bit load-in-8bit"),
    **_said(UPLOADED, "push-to-hub log-completions-hub-repo"),
    **_said(
        DRAWN_HERE,
        """
        use-vllm vllm-mode vllm-model-impl vllm-enable-sleep-mode vllm-structured-outputs-regex
        vllm-server-base-url vllm-server-host vllm-server-port vllm-server-timeout vllm-group-port
        vllm-gpu-memory-utilization vllm-max-model-length vllm-tensor-parallel-size
        vllm-importance-sampling-correction vllm-importance-sampling-mode vllm-importance-sampling-cap
        vllm-importance-sampling-clip-max vllm-importance-sampling-clip-min off-policy-mask-threshold
        use-bias-correction-kl
        """,
    ),
    **_said(ADAPTED, "lora-target-parameters lora-modules-to-save"),
    **_said(REFERENCE, "ref-model sync-ref-model ref-adapter-name model-adapter-name force-use-ref-model"),
    **_said(
        OBJECTIVE,
        """
        sapo-temperature-neg sapo-temperature-pos vespo-k-pos vespo-lambda-pos vespo-k-neg vespo-lambda-neg
        """,
    ),
    **_said(DPO_LOSS, "loss-weights ld-alpha f-divergence-type use-weighting rpo-alpha"),
    **_said(BIASED, "repetition-penalty min-p"),
    **_said(
        BATCHES,
        """
        generation-batch-size micro-batch-size local-batch-size mini-batch-size local-mini-batch-size
        num-total-batches world-size
        """,
    ),
    **_said(ON_CPU, "use-cpu no-cuda"),
    "--assistant-only-loss": "say --completion-only",
    "--auto-find-batch-size": "memory is --micro-batch-tokens: choose that",
    "--bf16-full-eval": "say --precision bfloat16",
    "--data-seed": "one seed is all: say --seed",
    "--dataloader-drop-last": "every record counts: leave it out",
    "--dataset-config": "data are files: write that part of the data set to JSON lines, and say --data FILE",
    "--dataset-kwargs": "say --completion-only, or --length: there are no others",
    "--dataset-streaming": "data are read whole: leave it out",
    "--dataset-text-field": "the column is called text: rename it in the file",
    "--disable-dropout": "there is no dropout: leave it out",
    "--do-predict": "say proximo lm generate after the run",
    "--entropy-coef": "say --entropy-coefficient",
    "--eval-on-start": "say proximo lm eval before the run",
    "--fp16": "16-bit floats overflow: say --precision bfloat16",
    "--fp16-full-eval": "16-bit floats overflow: say --precision bfloat16",
    "--generation-kwargs": "say --temperature and --response-length, one by one",
    "--ignore-data-skip": "a run goes on where it was: leave it out",
    "--is-encoder-decoder": "models with an encoder are not supported",
    "--kl-estimator": "a token's price is log pi - log pi_ref, which is k1; GRPO has --kl-estimate",
    "--label-names": "columns have TRL's names: prompt, completion, chosen, rejected, messages, text",
    "--label-smoothing-factor": "labels are taken as they are: leave it out",
    "--length-column-name": "lengths are counted here: leave it out",
    "--load-best-model-at-end": "the last model is saved, and eval_loss logged: choose --epochs by that",
    "--lora-dropout": "adapters have no dropout: leave it out",
    "--lr-scheduler-kwargs": "say --schedule and --warmup: they have no others",
    "--max-steps": "say --epochs",
    "--max-tool-calling-iterations": "tools are not called: leave it out",
    "--model-init-kwargs": "say --precision or --from-scratch, one by one",
    "--model-revision": "fetch that version into a folder, and say --model FOLDER",
    "--multi-objective-aggregation": "weighted rewards are summed before they are compared: leave it out",
    "--neftune-noise-alpha": "embeddings get no noise: leave it out",
    "--optim": "Adam with decoupled weight decay is the optimiser: leave it out",
    "--optim-args": "say --adam-beta1, --adam-beta2, --adam-epsilon or --weight-decay",
    "--optim-target-modules": "Adam with decoupled weight decay is the optimiser: leave it out",
    "--overwrite-output-dir": "no run is overwritten: choose another --out, or go on with --resume RUN",
    "--packing-strategy": "texts are packed whole, as by bfd: leave it out",
    "--reference-free": "the loss is relative to a reference: leave it out",
    "--resume-from-checkpoint": "say --resume RUN alone",
    "--save-steps": "say --checkpoint-every, in seconds",
    "--save-strategy": "say --checkpoint-every, in seconds",
    "--shuffle-dataset": "data are shuffled, by --seed: leave it out",
    "--stop-token": "the tokenizer's EOS ends a response: say --eos-token, or --stop for texts",
    "--stop-token-id": "say --eos-token, with the token itself",
    "--top-entropy-quantile": "every token counts: leave it out",
    "--train-sampling-strategy": "data are shuffled, by --seed: leave it out",
    "--truncation-mode": "answers are cut at their end: say --overlong drop to leave long ones out",
    "--trust-remote-code": "nothing in a model's folder is executed: leave it out",
    "--use-adaptive-entropy": "say --entropy-coefficient, which stays as it is",
    "--use-dora": "adapters are plain LoRA: leave it out",
    "--use-rslora": "say --lora-alpha, as your alpha times the square root of the rank: that is the same",
    "--warmup-steps": "say --warmup, as a share of the run",
}
NO_PATH = "say --chat-template, with the template's file"
NO_MATCH = "rows of one length are not sought: leave it out"
REFUSED_BY: dict[str, dict[str, str]] = {
    "train": {  # CleanRL's
        "--capture-video": "say --video-every N",
        "--clip-vloss": "say --value-loss clipped-squared-error",
        "--norm-adv": "say --advantage-normalisation",
        **_said(ON_CPU, "cuda"),
        **_said("a run is the same again in any case: leave it out", "torch-deterministic"),
        **_said("say --out, the folder of the run", "exp-name"),
    },
    "sft": {
        "--group-by-length": "texts are packed, so that nothing is padded: leave it out",
        "--loss-type": "the loss is the next token's, nll: leave it out",
    },
    "reward": {"--group-by-length": NO_MATCH, "--loss-type": "the loss is Bradley and Terry's: leave it out"},
    "dpo": {
        "--chat-template-path": NO_PATH,
        "--group-by-length": NO_MATCH,
        "--max-prompt-length": "say --length, of prompt and answer together",
        "--max-completion-length": "say --length, of prompt and answer together",
    },
    "ppo": {"--chat-template-path": NO_PATH, "--num-train-epochs": COUNTED, "--max-steps": COUNTED},
    "grpo": {
        "--chat-template-path": NO_PATH,
        "--delta": "say --objective dual-clip:EPSILON,DELTA",
        "--max-steps": COUNTED,
        "--num-train-epochs": COUNTED,
        "--steps-per-generation": "say --minibatches",
    },
}
