"""Options of other libraries without a counterpart here: those that ask for nothing, and what to use
instead.

Other libraries' names for an option of ours stand beside it (`proximo.options.also`). Options that translate
to another name or value are in `proximo.words`. A word in none of the three places is unknown, and an error:
nothing that was typed is silently ignored.
"""

from typing import NamedTuple

TRAINED = ("sft", "reward", "ppo", "dpo", "grpo")
BATCH, PARTS = "--per-device-train-batch-size", "--gradient-accumulation-steps"


class Foreign(NamedTuple):
    """What becomes of a word.

    harmless  the values with which it asks for nothing; None for any
    instead   what to use instead, for other values
    """

    harmless: tuple[str, ...] | None = None
    instead: str = ""


def foreign(command: str) -> dict[str, Foreign]:
    """The words of other libraries that a command knows without having a counterpart."""
    found = {f"--{word}": Foreign() for word in NOTHING.split() if command in TRAINED}
    for commands, table in {" ".join(TRAINED): INSTEAD, **INSTEAD_OF}.items():
        for words, instead in table.items() if command in commands.split() else ():
            for word in words.split():
                name, _, harmless = word.partition("=")
                values = None if harmless == "*" else tuple(filter(None, harmless.split("|")))
                found[f"--{name}"] = Foreign(values, instead)
    return found


# About other machines, or done here in any case: ignored, whatever the value.
NOTHING = """
    attn-implementation ignore-bias-buffers router-aux-loss-coef lora-task-type dataset-num-proc
    dataset-batch-size dataset-train-split dataset-test-split remove-unused-columns do-train do-eval
    eval-steps eval-strategy evaluation-strategy eval-delay eval-packing eval-accumulation-steps
    eval-do-concat-batches eval-use-gather-object include-for-metrics batch-eval-metrics
    prediction-loss-only per-device-eval-batch-size num-generations-eval metric-for-best-model
    greater-is-better logging-steps logging-strategy logging-first-step logging-dir logging-nan-inf-filter
    log-level log-level-replica log-on-each-node disable-tqdm run-name project include-num-input-tokens-seen
    trackio-space-id trackio-bucket-id trackio-static-space-id skip-memory-metrics log-completions
    log-multimodal log-unique-prompts num-completions-to-print num-sample-generations save-total-limit
    save-only-model save-on-each-node save-safetensors enable-jit-checkpoint
    restore-callback-states-from-checkpoint full-determinism hub-model-id hub-token hub-private-repo
    hub-strategy hub-always-push hub-revision tf32 use-liger-kernel liger-kernel-config torch-compile
    torch-compile-backend torch-compile-mode torch-empty-cache-steps activation-offloading
    activation-checkpointing activation-checkpointing-kwargs gradient-checkpointing-kwargs use-cache
    cache-implementation cast-lm-head-to-fp32 average-tokens-across-devices padding-free pad-to-multiple-of
    use-logits-to-keep padding-value dataloader-num-workers dataloader-pin-memory
    dataloader-persistent-workers dataloader-in-order dataloader-prefetch-factor
    dataloader-multiprocessing-context ddp-find-unused-parameters ddp-bucket-cap-mb ddp-broadcast-buffers
    ddp-static-graph ddp-backend ddp-timeout ds3-gather-for-generation local-rank
    local-rollout-forward-batch-size use-transformers-continuous-batching use-transformers-paged
    transformers-continuous-batching-config precompute-ref-log-probs precompute-ref-batch-size
    bnb-4bit-quant-type bnb-4bit-quant-storage use-bnb-nested-quant ref-model-mixup-alpha
    ref-model-sync-steps f-alpha-divergence-coef discopop-tau entropy-coef-min entropy-coef-max
    entropy-coef-delta entropy-target
"""
# Options, each with the values that ask for nothing (`*` for any), and what to use instead of other values.
INSTEAD = {
    "push-to-hub=false log-completions-hub-repo dataloader-drop-last=false dataset-streaming=false "
    "disable-dropout=true ignore-data-skip=false is-encoder-decoder=false label-smoothing-factor=0|0.0 "
    "length-column-name lora-dropout=0|0.0 max-tool-calling-iterations neftune-noise-alpha "
    "multi-objective-aggregation=sum_then_normalize packing-strategy=bfd top-entropy-quantile=1|1.0 "
    "trust-remote-code=false use-dora=false": "there is no such feature here: leave it out",
    "gradient-accumulation-steps": "it multiplies --per-device-train-batch-size, which is missing: pass "
    "that too, or use --batch-size and, to limit memory, --micro-batch-tokens",
    "deepspeed fsdp fsdp-config accelerator-config parallelism-config "
    "num-processes": "use --data-parallel and --model-parallel, which split the work across devices",
    "load-in-4bit=false load-in-8bit=false": "quantised weights are not supported: use --lora-rank and "
    "--precision bfloat16",
    "use-vllm=false vllm-mode vllm-model-impl vllm-enable-sleep-mode vllm-structured-outputs-regex "
    "vllm-server-base-url vllm-server-host vllm-server-port vllm-server-timeout vllm-group-port "
    "vllm-gpu-memory-utilization vllm-max-model-length vllm-tensor-parallel-size "
    "vllm-importance-sampling-correction vllm-importance-sampling-mode vllm-importance-sampling-cap "
    "vllm-importance-sampling-clip-max vllm-importance-sampling-clip-min off-policy-mask-threshold "
    "use-bias-correction-kl=false": "responses are sampled in this process: leave it out",
    "lora-target-parameters lora-modules-to-save": "adapters go on the layers' projections: "
    "use --lora-targets",
    "ref-model sync-ref-model=false ref-adapter-name model-adapter-name "
    "force-use-ref-model=false": "the reference is the model that the run starts from: leave it out",
    "sapo-temperature-neg sapo-temperature-pos vespo-k-pos vespo-lambda-pos vespo-k-neg "
    "vespo-lambda-neg": "there is no such loss: use --objective",
    "loss-weights ld-alpha f-divergence-type=reverse_kl use-weighting=false "
    "rpo-alpha": "there is no such loss: use --loss",
    "repetition-penalty=1|1.0 min-p=0|0.0": "it would bias the ratio to the policy that sampled: "
    "leave it out",
    "generation-batch-size micro-batch-size local-batch-size mini-batch-size local-mini-batch-size "
    "num-total-batches world-size": "use --batch-size, and --minibatches to split it into gradient steps",
    "use-cpu=false no-cuda=false": "JAX chooses the device: set JAX_PLATFORMS=cpu",
    "assistant-only-loss=false": "use --completion-only",
    "auto-find-batch-size=false": "use --micro-batch-tokens to limit memory",
    "bf16-full-eval=false": "use --precision bfloat16",
    "data-seed": "there is one seed for everything: use --seed",
    "dataset-config": "data are read from files: write that subset to a JSON Lines file, and use --data FILE",
    "dataset-kwargs": "use --completion-only or --length; there are no other such options",
    "dataset-text-field": "the column is called text: rename it in the file",
    "do-predict=false": "run `proximo lm generate` afterwards",
    "entropy-coef=0|0.0": "use --entropy-coefficient",
    "eval-on-start=false": "run `proximo lm eval` before training",
    "fp16=false fp16-full-eval=false": "16-bit floats overflow: use --precision bfloat16",
    "generation-kwargs": "use --temperature and --response-length",
    "kl-estimator=k1": "the penalty per token is log pi - log pi_ref, which is k1; GRPO has --kl-estimate",
    "label-names": "columns have TRL's names: prompt, completion, chosen, rejected, messages, text",
    "load-best-model-at-end=false": "the last model is saved and eval_loss is logged: choose --epochs by it",
    "lr-scheduler-kwargs": "use --schedule and --warmup; schedules have no other arguments",
    "max-steps=-1": "use --epochs",
    "model-init-kwargs": "use --precision or --from-scratch",
    "model-revision=main": "download that revision into a folder, and use --model FOLDER",
    "optim=adamw_torch|adamw_torch_fused|adamw optim-target-modules": "Adam with decoupled weight decay is "
    "the optimiser: leave it out",
    "optim-args": "use --adam-beta1, --adam-beta2, --adam-epsilon or --weight-decay",
    "overwrite-output-dir=false": "runs are never overwritten: choose another --out, or use --resume RUN",
    "reference-free=false": "the loss always uses a reference model: leave it out",
    "resume-from-checkpoint": "use --resume RUN alone",
    "save-steps save-strategy=no|epoch|steps": "use --checkpoint-every, in seconds",
    "shuffle-dataset=true train-sampling-strategy=random": "data are shuffled with --seed: leave it out",
    "stop-token=eos": "the tokenizer's EOS ends a response: use --eos-token, or --stop for text",
    "stop-token-id": "use --eos-token, with the token itself",
    "truncation-mode=keep_start": "long answers are truncated at the end: use --overlong drop to drop them",
    "use-adaptive-entropy=false": "use --entropy-coefficient, which is constant",
    "use-rslora=false": "use --lora-alpha with your alpha times the square root of the rank: that is "
    "the same",
    "warmup-steps=0": "use --warmup, as a fraction of the run",
    "report-to=none": "use --tensorboard or --wandb",
}
INSTEAD_OF = {  # by the commands that it is for
    "sft reward dpo": {"group-by-length": "rows are not grouped by length: leave it out"},
    "dpo ppo grpo": {"chat-template-path": "use --chat-template, with the template's file"},
    "ppo grpo": {
        "num-train-epochs max-steps=-1": "the length of training is counted in responses: use --episodes "
        "(passes x prompts x samples)",
    },
    "train sweep bench": {
        "capture-video": "use --video-every N",
        "clip-vloss": "use --value-loss clipped-squared-error",
        "norm-adv": "use --advantage-normalisation",
        "cuda": "JAX chooses the device: set JAX_PLATFORMS=cpu",
        "torch-deterministic": "runs are reproducible in any case: leave it out",
        "exp-name": "use --out, the folder of the run",
        # Stable-Baselines3's
        "verbose=* log-interval=* tb-log-name=* save-model=* init-setup-model=*": "leave it out",
        "normalize-advantage=true": "use --advantage-normalisation none",
        "device=auto": "JAX chooses the device: set JAX_PLATFORMS=cpu, or leave it out",
        "tensorboard-log=none": "use --tensorboard: event files are in the run folder, under tb/",
        "policy=mlppolicy|multiinputpolicy": "use --hidden, or --network for memory",
        "policy-kwargs=none": "use --hidden, --critic-hidden and --activation",
        "clip-range-vf=none": "use --value-loss clipped-squared-error",
        "use-sde=false": "use --distribution state-dependent-exploration",
        "sde-sample-freq=-1": "use --distribution state-dependent-exploration:STEPS",
        "rollout-buffer-class=none rollout-buffer-kwargs=none": "there is one buffer: leave it out",
        "stats-window-size=100": "means are of the last 100 episodes: leave it out",
        "callback=none": "write the loop: for iteration in proximo.training(config)",
        "reset-num-timesteps=true": "every call trains from scratch; proximo.resume(run, steps=...) "
        "continues a run",
        # CleanRL's and RL Baselines3 Zoo's
        "wandb-entity=none": "set the environment variable WANDB_ENTITY",
        "upload-model=false hf-entity": "nothing is uploaded: leave it out",
        "algo=ppo": "use --preset",
        "log-folder": "use --out, the folder of the run",
        "save-freq": "use --checkpoint-every, in seconds",
    },
    "sft": {
        "loss-type=nll|chunked_nll": "the loss is the next token's, nll: leave it out",
        "shuffle-dataset=*": "it is shuffled by TRL in any case",
        "dataset-text-field=text": "the column is called text: rename it in the file",
    },
    "reward": {
        "loss-type": "the loss is Bradley and Terry's: leave it out",
    },
    "dpo": {
        "max-prompt-length max-completion-length": "use --length, of prompt and answer together",
    },
    "grpo": {
        "delta": "use --objective dual-clip:EPSILON,DELTA",
        "steps-per-generation": "use --minibatches",
    },
}
