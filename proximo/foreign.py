"""Options of other libraries without a counterpart here: those that ask for nothing, and what to say instead.

Names of options that we have too stand beside these (`proximo.options.also`), and those that are said by
other words in `proximo.words`. A word that is in none of the three is unknown: nothing that was typed is
passed over.
"""

from typing import NamedTuple

TRAINED = ("sft", "reward", "ppo", "dpo", "grpo")
BATCH, PARTS = "--per-device-train-batch-size", "--gradient-accumulation-steps"


class Foreign(NamedTuple):
    """What becomes of a word.

    harmless  the values with which it asks for nothing; None for any
    instead   what to say instead of others
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


# Another machine's business, or done here in any case, whatever the value.
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
# Words, behind them the values that ask for nothing, `*` for any; and what to say instead of others.
INSTEAD = {
    "push-to-hub=false log-completions-hub-repo dataloader-drop-last=false dataset-streaming=false "
    "disable-dropout=true ignore-data-skip=false is-encoder-decoder=false label-smoothing-factor=0|0.0 "
    "length-column-name lora-dropout=0|0.0 max-tool-calling-iterations neftune-noise-alpha "
    "multi-objective-aggregation=sum_then_normalize packing-strategy=bfd top-entropy-quantile=1|1.0 "
    "trust-remote-code=false use-dora=false": "there is nothing of the kind here: leave it out",
    "gradient-accumulation-steps": "it multiplies --per-device-train-batch-size, which is missing: say that "
    "too, or --batch-size and, for memory, --micro-batch-tokens",
    "deepspeed fsdp fsdp-config accelerator-config parallelism-config "
    "num-processes": "say --data-parallel and --model-parallel, which share the work among devices",
    "load-in-4bit=false load-in-8bit=false": "quantised weights are not supported: say --lora-rank and "
    "--precision bfloat16",
    "use-vllm=false vllm-mode vllm-model-impl vllm-enable-sleep-mode vllm-structured-outputs-regex "
    "vllm-server-base-url vllm-server-host vllm-server-port vllm-server-timeout vllm-group-port "
    "vllm-gpu-memory-utilization vllm-max-model-length vllm-tensor-parallel-size "
    "vllm-importance-sampling-correction vllm-importance-sampling-mode vllm-importance-sampling-cap "
    "vllm-importance-sampling-clip-max vllm-importance-sampling-clip-min off-policy-mask-threshold "
    "use-bias-correction-kl=false": "responses are drawn in this process: leave it out",
    "lora-target-parameters lora-modules-to-save": "adapters go to the layers' maps: say --lora-targets",
    "ref-model sync-ref-model=false ref-adapter-name model-adapter-name "
    "force-use-ref-model=false": "the reference is the model that the run begins from: leave it out",
    "sapo-temperature-neg sapo-temperature-pos vespo-k-pos vespo-lambda-pos vespo-k-neg "
    "vespo-lambda-neg": "there is no such loss: say --objective",
    "loss-weights ld-alpha f-divergence-type=reverse_kl use-weighting=false "
    "rpo-alpha": "there is no such loss: say --loss",
    "repetition-penalty=1|1.0 min-p=0|0.0": "it would bias the ratio to the policy that answered: leave it "
    "out",
    "generation-batch-size micro-batch-size local-batch-size mini-batch-size local-mini-batch-size "
    "num-total-batches world-size": "say --batch-size, and --minibatches for the steps that it is cut into",
    "use-cpu=false no-cuda=false": "JAX chooses the device: set JAX_PLATFORMS=cpu",
    "assistant-only-loss=false": "say --completion-only",
    "auto-find-batch-size=false": "memory is --micro-batch-tokens: choose that",
    "bf16-full-eval=false": "say --precision bfloat16",
    "data-seed": "one seed is all: say --seed",
    "dataset-config": "data are files: write that part of the data set to JSON lines, and say --data FILE",
    "dataset-kwargs": "say --completion-only, or --length: there are no others",
    "dataset-text-field": "the column is called text: rename it in the file",
    "do-predict=false": "say proximo lm generate after the run",
    "entropy-coef=0|0.0": "say --entropy-coefficient",
    "eval-on-start=false": "say proximo lm eval before the run",
    "fp16=false fp16-full-eval=false": "16-bit floats overflow: say --precision bfloat16",
    "generation-kwargs": "say --temperature and --response-length, one by one",
    "kl-estimator=k1": "a token's price is log pi - log pi_ref, which is k1; GRPO has --kl-estimate",
    "label-names": "columns have TRL's names: prompt, completion, chosen, rejected, messages, text",
    "load-best-model-at-end=false": "the last model is saved, and eval_loss logged: choose --epochs by that",
    "lr-scheduler-kwargs": "say --schedule and --warmup: they have no others",
    "max-steps=-1": "say --epochs",
    "model-init-kwargs": "say --precision or --from-scratch, one by one",
    "model-revision=main": "fetch that version into a folder, and say --model FOLDER",
    "optim=adamw_torch|adamw_torch_fused|adamw optim-target-modules": "Adam with decoupled weight decay is "
    "the optimiser: leave it out",
    "optim-args": "say --adam-beta1, --adam-beta2, --adam-epsilon or --weight-decay",
    "overwrite-output-dir=false": "no run is overwritten: choose another --out, or go on with --resume RUN",
    "reference-free=false": "the loss is relative to a reference: leave it out",
    "resume-from-checkpoint": "say --resume RUN alone",
    "save-steps save-strategy=no|epoch|steps": "say --checkpoint-every, in seconds",
    "shuffle-dataset=true train-sampling-strategy=random": "data are shuffled, by --seed: leave it out",
    "stop-token=eos": "the tokenizer's EOS ends a response: say --eos-token, or --stop for texts",
    "stop-token-id": "say --eos-token, with the token itself",
    "truncation-mode=keep_start": "answers are cut at their end: say --overlong drop to leave long ones out",
    "use-adaptive-entropy=false": "say --entropy-coefficient, which stays as it is",
    "use-rslora=false": "say --lora-alpha, as your alpha times the square root of the rank: that is the same",
    "warmup-steps=0": "say --warmup, as a share of the run",
    "report-to=none": "say --tensorboard or --wandb",
}
INSTEAD_OF = {  # by the commands that it is for
    "sft reward dpo": {"group-by-length": "rows of one length are not sought: leave it out"},
    "dpo ppo grpo": {"chat-template-path": "say --chat-template, with the template's file"},
    "ppo grpo": {
        "num-train-epochs max-steps=-1": "responses are counted here: say --episodes (passes x prompts x "
        "samples)",
    },
    "train sweep bench": {
        "capture-video": "say --video-every N",
        "clip-vloss": "say --value-loss clipped-squared-error",
        "norm-adv": "say --advantage-normalisation",
        "cuda": "JAX chooses the device: set JAX_PLATFORMS=cpu",
        "torch-deterministic": "a run is the same again in any case: leave it out",
        "exp-name": "say --out, the folder of the run",
        # Stable-Baselines3's
        "verbose=* log-interval=* tb-log-name=* save-model=* init-setup-model=*": "leave it out",
        "normalize-advantage=true": "say --advantage-normalisation none",
        "device=auto": "JAX chooses the device: set JAX_PLATFORMS=cpu, or leave it out",
        "tensorboard-log=none": "say --tensorboard: event files are in the run folder, under tb/",
        "policy=mlppolicy|multiinputpolicy": "say --hidden, or --network for memory",
        "policy-kwargs=none": "say --hidden, --critic-hidden and --activation",
        "clip-range-vf=none": "say --value-loss clipped-squared-error",
        "use-sde=false": "say --distribution state-dependent-exploration",
        "sde-sample-freq=-1": "say --distribution state-dependent-exploration:STEPS",
        "rollout-buffer-class=none rollout-buffer-kwargs=none": "there is one buffer: leave it out",
        "stats-window-size=100": "means are of the last 100 episodes: leave it out",
        "callback=none": "write the loop: for iteration in proximo.training(config)",
        "reset-num-timesteps=true": "every call trains anew; proximo.resume(run, steps=...) goes on",
        # CleanRL's and RL Baselines3 Zoo's
        "wandb-entity=none": "set the variable WANDB_ENTITY",
        "upload-model=false hf-entity": "nothing is uploaded: leave it out",
        "algo=ppo": "say --preset",
        "log-folder": "say --out, the folder of the run",
        "save-freq": "say --checkpoint-every, in seconds",
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
        "max-prompt-length max-completion-length": "say --length, of prompt and answer together",
    },
    "grpo": {
        "delta": "say --objective dual-clip:EPSILON,DELTA",
        "steps-per-generation": "say --minibatches",
    },
}
