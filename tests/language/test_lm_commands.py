"""`proximo lm ...`, as a user meets it: its options, its runs, going on with them, and mistakes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from workplace import lines, workplace

from proximo.cli import main
from proximo.commands.lm_chat import Chat
from proximo.commands.lm_eval import Evaluate
from proximo.commands.lm_generate import Generate
from proximo.commands.lm_train import arguments_of
from proximo.language.progress import facts, shown
from proximo.language.train.job import Iteration
from proximo.options import flat_options
from tests.quick import AS_A_USER_HAS_IT

# ---- the options, frozen: one that goes breaks somebody's command line
OPTIONS = {
    "sft": """
        adam_beta1 adam_beta2 adam_epsilon batch_size chat_template chat_template_kwargs
        checkpoint_every completion_only config data data_parallel debug eos_token epochs
        evaluation_data from_scratch gradient_checkpointing invalid json learning_rate length
        lora_alpha lora_rank lora_targets max_grad_norm max_time micro_batch_tokens model
        model_parallel out overlong packing pad_token precision quiet save_dtype schedule seed
        tensorboard wandb wandb_project warmup weight_decay
    """,
    "reward": """
        adam_beta1 adam_beta2 adam_epsilon batch_size center_rewards_coefficient chat_template
        chat_template_kwargs checkpoint_every config data data_parallel debug eos_token epochs
        evaluation_data evaluation_share from_scratch gradient_checkpointing invalid json
        learning_rate length lora_alpha lora_rank lora_targets max_grad_norm max_time
        micro_batch_tokens model model_parallel normalise out overlong pad_token precision quiet
        sample_length save_dtype schedule seed tensorboard wandb wandb_project warmup weight_decay
    """,
    "dpo": """
        adam_beta1 adam_beta2 adam_epsilon batch_size beta chat_template chat_template_kwargs
        checkpoint_every config data data_parallel debug eos_token epochs evaluation_data
        from_scratch gradient_checkpointing invalid json learning_rate length lora_alpha lora_rank
        lora_targets loss max_grad_norm max_time micro_batch_tokens model model_parallel out
        overlong pad_token precision quiet save_dtype schedule seed tensorboard wandb wandb_project
        warmup weight_decay
    """,
    "ppo": """
        adam_beta1 adam_beta2 adam_epsilon advantage_masking aggregation batch_size chat_template
        chat_template_kwargs checkpoint_every config critic critic_from critic_lambda critic_warmup
        data data_parallel debug entropy_coefficient entropy_filtering eos_token episodes epochs
        from_scratch gae_lambda gamma gradient_checkpointing group_by_length invalid json kl
        kl_estimate kl_in learning_rate length_lambda lora_alpha lora_rank lora_targets
        max_grad_norm max_time micro_batch_tokens minibatches missing_eos_penalty model
        model_parallel objective out overlong pad_token precision prompt_length quiet ratio
        response_length reward reward_model reward_weights samples samples_every save_dtype
        scale_scores schedule seed show_samples stop target_kl temperature tensorboard top_k top_p truncated
        value_coefficient value_loss wandb wandb_project warmup weight_decay whiten_rewards
    """,
    "grpo": """
        adam_beta1 adam_beta2 adam_epsilon advantage aggregation batch_size beta chat_template
        chat_template_kwargs checkpoint_every config data data_parallel debug entropy_coefficient
        eos_token episodes epochs from_scratch gradient_checkpointing group_by_length invalid json
        kl_estimate kl_in learning_rate lora_alpha lora_rank lora_targets max_grad_norm max_time
        micro_batch_tokens minibatches missing_eos_penalty model model_parallel objective out
        overlong pad_token precision prompt_length quiet ratio response_length reward reward_model
        reward_weights samples samples_every save_dtype schedule seed show_samples skip_equal_groups
        soft_overlong stop target_kl temperature tensorboard top_k top_p truncated wandb
        wandb_project warmup weight_decay
    """,
    "generate": """
        batch_size chat chat_template chat_template_kwargs config data debug eos_token greedy
        invalid json max_new_tokens model out overlong pad_token prompt quiet samples seed stop
        temperature top_k top_p
    """,
    "chat": """
        batch_size chat_template chat_template_kwargs config debug eos_token greedy json max_new_tokens
        model pad_token samples seed stop system temperature top_k top_p
    """,
    "eval": """
        batch_size chat_template chat_template_kwargs completion_only config data debug eos_token
        invalid json length model overlong pad_token response_length reward reward_model
        reward_weights samples seed temperature
    """,
}


def class_of(command):
    return {"generate": Generate, "chat": Chat, "eval": Evaluate}.get(command) or arguments_of(command)


@pytest.mark.parametrize("command", OPTIONS)
def test_the_help_is_in_the_usual_words_of_the_field(command, capsys):
    with pytest.raises(SystemExit):
        main(["lm", command, "--help"])
    said = " ".join(re.sub(r"[^\x20-\x7e]", " ", capsys.readouterr().out).split())
    reward = "`file.py:function` or `module:function`"
    usual = {
        "ppo": ["KL coefficient (per nat)", "Maximum response length in tokens", "Random seed", reward],
        "grpo": ["KL coefficient (per nat)", "--checkpoint-every SECONDS", reward],
        "eval": [reward, "--model MODEL", "--data FILE"],
        "sft": ["--model MODEL", "--data FILE", "--out FOLDER", "model options"],
    }
    for words in usual.get(command, []):
        assert words in said, words
    for words in ("Price of", "Most tokens", "What becomes of", "learn from in all", "two looks", "may cost"):
        assert words not in said, words
    for words in ("options options", "options.", "tethered", "draw", "unless said", "go on with"):
        assert words not in said, words


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_are_these(command):
    assert sorted(flat_options(class_of(command))) == OPTIONS[command].split()


@pytest.mark.parametrize("command", OPTIONS)
def test_every_option_is_explained(command, capsys):
    with pytest.raises(SystemExit) as end:
        main(["lm", command, "--help"])
    assert not end.value.code
    text = capsys.readouterr().out
    for name in OPTIONS[command].split():
        said = (
            text[text.index(f"--{name.replace('_', '-')}") :]
            .partition("(default")[0]
            .partition("(required")[0]
        )
        assert len(said.split()) > 3, name


# ---- what is said where nothing is asked


def test_the_overview_has_a_line_for_each_command(capsys):
    assert main(["lm"]) == 2 and main(["lm", "--help"]) == 0
    text = capsys.readouterr().out
    for command in OPTIONS:
        assert f"\n  {command} MODEL" in text and f"proximo lm {command} MODEL" in text
    assert main(["--help"]) == 0
    assert "\n  lm COMMAND" in capsys.readouterr().out


def mistake(capsys, *words):
    """The one line on standard error."""
    assert main(["lm", *map(str, words)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "Traceback" not in said.err
    return said.err


def test_an_unknown_command_is_told(capsys):
    assert mistake(capsys, "sfd") == "proximo lm sfd: there is no command 'sfd': did you mean sft?\n"
    assert "take one of sft, reward" in mistake(capsys, "zzz")


def test_a_missing_library_is_told(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert 'pip install "proximo[language]"' in mistake(capsys, "sft", "base")


# ---- progress


def rows(*metrics):
    return (Iteration(number, 3, None, found, 100 * number, ()) for number, found in enumerate(metrics, 1))


TOLD = ({"objective/scores": 0.5, "objective/kl": 0.01}, {"loss": 2.0, "mean_token_accuracy": 0.25}, {})


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("enabled", [True, False])
def test_progress_hands_on_every_iteration(terminal, enabled, monkeypatch, capsys):
    monkeypatch.setattr("proximo.runs.progress.LINE_SECONDS", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert [row.number for row in shown(rows(*TOLD), "lm ppo", 3, enabled)] == [1, 2, 3]
    said = capsys.readouterr()
    assert said.out == "" and bool(said.err) == enabled
    assert ("lm ppo" in said.err) == enabled
    assert len(said.err.splitlines()) == 3 or not enabled or terminal


def test_the_facts_are_those_that_there_are():
    assert [facts(found) for found in TOLD] == ["reward 0.5  KL 0.01", "loss 2  accuracy 0.25", ""]


# ---- runs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return workplace(tmp_path_factory.mktemp("place"))


@pytest.fixture
def there(place, monkeypatch):
    """The user stands in that folder."""
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    return place


SFT = ["sft", "base", "--data", "texts.jsonl", "--no-packing", "--batch-size", "6", "--epochs", "2"]
SAMPLED = ["--data", "prompts.jsonl", "--response-length", "4", "--batch-size", "2", "--samples", "2"]


def json_of(capsys, *words):
    """What a command says with --json."""
    assert main(["lm", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def numbers_of(run):
    """The metrics of a run without its clock."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: x for name, x in row.items() if name not in ("time/time_elapsed", "eps")} for row in rows]


def test_fine_tuning_then_answers_and_perplexity(there, capsys):
    said = json_of(capsys, *SFT, "--quiet", "--out", "sft")
    assert sorted(said) == [
        *("command", "iterations", "metrics", "notes", "run"),
        *("seconds", "tokens", "tokens_per_second", "total"),
    ]
    # 12 texts in batches of 6, twice.
    assert (said["run"], said["command"], said["iterations"], said["total"]) == ("sft", "sft", 4, 4)
    assert said["metrics"]["epoch"] == 2.0
    answers = json_of(capsys, "generate", "sft", "--prompt", "1 ", "2 ", "--response-length", "4", "--greedy")
    assert [answer["prompt"] for answer in answers] == ["1 ", "2 "]
    assert all(0 < answer["tokens"] <= 4 and answer["log_prob"] < 0 for answer in answers)
    found = json_of(capsys, "eval", "sft", "--data", "texts.jsonl")
    assert found["kind"] == "texts" and found["records"] == 12 and found["perplexity"] > 1
    assert main(["lm", "eval", "sft", "--data", "texts.jsonl"]) == 0
    assert "12 texts, " in capsys.readouterr().out


def test_progress_is_plain_lines_in_a_pipe_and_the_end_says_what_is_next(there, capsys, monkeypatch):
    monkeypatch.setattr("proximo.runs.progress.LINE_SECONDS", 0.0)
    assert main(["lm", *SFT, "--out", "plain"]) == 0
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert [line.split("  ")[0] for line in lines] == [f"lm sft: {n}/4 iterations" for n in (1, 2, 3, 4)]
    assert all("loss" in line and "accuracy" in line for line in lines) and "tokens/s" in lines[-1]
    assert said.out.splitlines()[0].startswith("4 of 4 iterations, ")
    assert said.out.splitlines()[-1] == "next: proximo lm chat plain"


def test_answers_in_a_file_are_data_to_learn_from(there, capsys):
    words = ["generate", "base", "--data", "prompts.jsonl", "--max-new-tokens", "4", "--quiet"]
    words += ["--batch-size", "3"]  # the last batch holds two
    assert main(["lm", *words, "--out", "answers.jsonl"]) == 0
    assert capsys.readouterr().out == ""
    rows = [json.loads(line) for line in (there / "answers.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [f"{i} " for i in range(8)]
    assert [row["level"] for row in rows] == list(range(8))  # the records' other columns stay
    assert all({"completion", "tokens", "finished", "log_prob"} <= {*row} for row in rows)
    assert "it already exists" in mistake(capsys, *words, "--out", "answers.jsonl")


def test_records_that_are_left_out_are_counted_where_the_user_looks(there, capsys):
    records = [{"prompt": "1 "}, {"prompt": "1" * 70}, {"prompt": ""}, {"prompt": "2 "}]
    lines(there / "mixed.jsonl", records)
    words = ["--data", "mixed.jsonl", "--response-length", "4"]
    out = ["--overlong", "drop", "--invalid", "drop"]
    notes = (
        "mixed.jsonl: 0 records truncated, 1 dropped as too long",
        'mixed.jsonl: 1 record dropped as invalid: "prompt" is empty (1)',
    )
    assert "mixed.jsonl, line 2: has 70 tokens" in mistake(capsys, "generate", "base", *words)
    assert 'line 3: "prompt" is empty' in mistake(capsys, "generate", "base", *words, *out[:2])
    assert main(["lm", "generate", "base", *words, *out, "--json"]) == 0
    said = capsys.readouterr()
    assert [one["prompt"] for one in json.loads(said.out)] == ["1 ", "2 "]
    assert said.err == "".join(f"note: {note}\n" for note in notes)
    ones = ["--reward", "rewards_of_mine:ones", "--batch-size", "2"]
    found = json_of(capsys, "eval", "base", *words, *out, *ones)
    assert (found["prompts"], found["notes"]) == (2, list(notes))
    assert "never truncated" in mistake(capsys, "eval", "base", *words, "--overlong", "truncate", *ones)
    run = ["ppo", "base", *words, *out, *ones, "--episodes", "2", "--out", "mixed"]
    said = json_of(capsys, *run)
    assert said["notes"] == list(notes)
    assert json.loads((there / "mixed" / "config.json").read_text())["notes"] == list(notes)


def test_texts_and_pairs_that_are_wrong_are_left_out_on_demand(there, capsys):
    lines(there / "bad.jsonl", [{"text": "1 2"}, {"text": ""}, {"text": "2 3"}])
    note = 'bad.jsonl: 1 record dropped as invalid: "text" is empty (1)'
    words = ["base", "--data", "bad.jsonl", "--invalid", "drop"]
    assert json_of(capsys, "eval", *words)["notes"] == [note]
    assert json_of(capsys, "sft", *words, "--batch-size", "2", "--out", "bad")["notes"] == [note]
    pairs = [{"prompt": "1", "chosen": "2", "rejected": rejected} for rejected in ("2", "3", "4")]
    lines(there / "same.jsonl", pairs)
    note = 'same.jsonl: 1 record dropped as invalid: "chosen" and "rejected" are the same (1)'
    for command in ("dpo", "reward"):
        words = [command, "base", "--data", "same.jsonl", "--batch-size", "2", "--out", f"same-{command}"]
        assert 'line 1: "chosen" and "rejected" are the same' in mistake(capsys, *words)
        assert json_of(capsys, *words, "--invalid", "drop")["notes"] == [note]


def test_answers_for_a_person_to_read(there, capsys):
    words = ["lm", "generate", "base", "--prompt", "1 ", "--max-new-tokens", "4", "--greedy"]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("> 1 \n")


@pytest.mark.slow  # it stands on a run that a slow one makes
def test_a_run_that_is_out_of_time_says_so_and_goes_on(there, capsys):
    assert main(["lm", *SFT, "--quiet", "--out", "late", "--max-time", "0"]) == 3
    said = capsys.readouterr()
    assert said.out.startswith("1 of 4 iterations")
    assert said.err == "stopped; resume with: proximo lm sft --resume late\n"
    assert main(["lm", "sft", "--resume", "late", "--quiet"]) == 0
    assert numbers_of(there / "late") == numbers_of(there / "sft")
    typed = json.loads((there / "late" / "config.json").read_text())["resumed_with"]
    assert typed == [["lm", "sft", "--resume", "late", "--quiet"]]
    assert capsys.readouterr().out.startswith("4 of 4 iterations")


def test_an_interrupted_run_goes_on_bit_for_bit(there, capsys):
    words = ["lm", "ppo", "base", *SAMPLED, "--episodes", "12", "--epochs", "1", "--quiet", "--out", "ppo"]
    words += ["--reward", "rewards_of_mine:ones", "--kl", "adaptive-kl:0.1"]
    assert main(words) == 0
    (there / "ppo").rename(there / "whole")
    (there / "SIGTERM").touch()
    capsys.readouterr()
    assert main(words) == 128 + 15
    again = "proximo lm ppo --resume ppo --reward rewards_of_mine:ones"
    assert capsys.readouterr().err == f"stopped; resume with: {again}\n"
    assert len(numbers_of(there / "ppo")) == 1
    assert main([*again.split()[1:], "--quiet"]) == 0
    assert numbers_of(there / "ppo") == numbers_of(there / "whole")
    model = [(there / run / "model" / "model.safetensors").read_bytes() for run in ("ppo", "whole")]
    assert model[0] == model[1]
    # Once more: nothing is left to do, and the model stays as it is.
    assert main([*again.split()[1:], "--quiet"]) == 0
    assert (there / "ppo" / "model" / "model.safetensors").read_bytes() == model[0]


def test_the_second_signal_ends_at_once(there, capsys):
    (there / "SIGINT").touch()
    (there / "SIGTERM").touch()  # one after the other, within one call of the reward function
    words = [*SAMPLED, "--episodes", "12", "--reward", "rewards_of_mine:ones", "--quiet", "--out", "cut"]
    assert main(["lm", "ppo", "base", *words]) == 130
    assert capsys.readouterr().err.endswith("proximo lm ppo: interrupted\n")


@pytest.mark.slow  # it stands on a run that a slow one makes
def test_a_run_is_resumed_as_what_it_was(there, capsys):
    assert "is a run of `proximo lm ppo`" in mistake(capsys, "grpo", "--resume", "ppo")
    # Its reward function is code, and a file never imports any.
    for words in ([], ["--reward", "rewards_of_mine:broken"]):
        said = mistake(capsys, "ppo", "--resume", "ppo", *words)
        assert (
            "used --reward rewards_of_mine:ones (given now:" in said
            and "pass it again, since run files" in said
        )
    assert "leave out --config" in mistake(capsys, "ppo", "--resume", "ppo", "--config", "a.toml")
    assert "--learning-rate" in mistake(capsys, "ppo", "--resume", "ppo", "--learning-rate", "1")
    assert "is not a run of `proximo lm`" in mistake(capsys, "ppo", "--resume", "base/nowhere")


def test_a_run_does_not_go_on_with_other_data(there, capsys):
    (there / "own.jsonl").write_bytes((there / "texts.jsonl").read_bytes())
    words = [word.replace("texts", "own") for word in SFT]
    assert main(["lm", *words, "--quiet", "--out", "own", "--max-time", "0"]) == 3
    with (there / "own.jsonl").open("a") as file:
        file.write("\n")
    capsys.readouterr()
    assert "own.jsonl has changed since the run started" in mistake(capsys, "sft", "--resume", "own")


@pytest.mark.slow  # it stands on a run that a slow one makes
def test_a_module_named_in_a_run_is_not_imported(there, capsys, monkeypatch):
    (there / "evil.py").write_text("raise SystemExit('imported')")
    config = json.loads((there / "ppo" / "config.json").read_text())
    config["options"]["rewards"]["reward"] = ["evil:f"]
    shutil.copytree(there / "ppo", there / "changed")
    (there / "changed" / "config.json").write_text(json.dumps(config))
    assert "this run used --reward evil:f (given now: none)" in mistake(capsys, "ppo", "--resume", "changed")
    assert "evil" not in sys.modules


def test_from_preferences_to_rewards(there, capsys):
    pairs = ["--data", "pairs.jsonl", "--batch-size", "10", "--quiet"]
    assert main(["lm", "reward", "base", *pairs, "--out", "rm"]) == 0
    assert capsys.readouterr().out.endswith(
        "next: proximo lm ppo MODEL --data prompts.jsonl --reward-model rm\n"
    )
    assert main(["lm", "eval", "rm", "--data", "pairs.jsonl"]) == 0
    assert capsys.readouterr().out.startswith("20 pairs: accuracy ")
    words = ["--samples", "2", "--batch-size", "2", "--response-length", "4", "--reward-model", "rm"]
    found = json_of(capsys, "eval", "base", "--data", "prompts.jsonl", *words)
    assert found["kind"] == "rewards" and found["answers"] == 16 and found["low"] < found["high"]


def test_what_was_chosen_for_a_tokenizer_is_said(there, capsys):
    # Without a PAD of its own, the end token fills batches up.
    shutil.copytree(there / "base", there / "padless")
    (there / "padless" / "manifest.json").unlink()  # of sums; the change is meant
    path = there / "padless" / "tokenizer_config.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps({name: x for name, x in described.items() if name != "pad_token"}))
    words = ["--response-length", "4", "--reward", "rewards_of_mine:ones"]
    for rest in (
        ["generate", "padless", "--prompt", "1 ", "--max-new-tokens", "4"],
        ["eval", "padless", "--data", "texts.jsonl"],
        ["eval", "padless", "--data", "prompts.jsonl", *words],
    ):
        assert main(["lm", *rest]) == 0
        said = capsys.readouterr()
        assert said.err.startswith("note: ") and "PAD" in said.err and "note" not in said.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sft base", "--data"),
        ("sft --data texts.jsonl", "--model"),
        ("sft base --data nowhere.jsonl", "nowhere.jsonl cannot be read"),
        ("sft base --dataset-name some/texts", 'datasets.load_dataset("some/texts", split="train").to_json('),
        ("eval base --data some/texts", 'datasets.load_dataset("some/texts", split="train").to_json('),
        ("sft nowhere --data texts.jsonl", "there is no folder nowhere"),
        ("sft base --data prompts.jsonl", 'line 1: has "prompt", "level", and needs'),
        ("sft base --data texts.jsonl --learning-rate -1", "learning_rate is -1"),
        ("sft base other --data texts.jsonl", "other"),
        ("sft base --data texts.jsonl --out base", "choose another --out"),
        ("dpo base --data pairs.jsonl --loss ipoo", "take one of sigmoid-loss, conservative-loss, ipo-loss"),
        ("dpo base --data pairs.jsonl --beta 0", "beta is 0"),
        ("sft base --data texts.jsonl --seed -1", "seed is -1"),
        ("grpo base --data prompts.jsonl --reward rewards_of_mine:ones --beta inf", "beta is inf"),
        ("ppo base --data prompts.jsonl --response-length 4", "no reward given: pass --reward or --reward-"),
        ("ppo base --data prompts.jsonl --reward nowhere", "write module:function"),
        ("ppo base --data prompts.jsonl --reward rewards_of_mine:none", "has no function none"),
        ("ppo base --data prompts.jsonl --temperature 0", "a greedy policy cannot explore"),
        ("ppo base --data prompts.jsonl --kl adaptive:x", "x"),
        ("grpo base --data prompts.jsonl --samples 1 --reward rewards_of_mine:ones", "samples is 1"),
        ("generate base", "give prompts in one way"),
        ("generate base --prompt 1 --data prompts.jsonl", "give prompts in one way"),
        ("generate base --prompt 1 --top-p 2", "top_p is 2"),
        ("generate base --prompt 1 --chat --max-new-tokens 4", "no chat template"),
        ("generate base --data prompts.jsonl --chat", "write prompts as messages"),
        ("eval base --data pairs.jsonl", "preferences measure reward models"),
        ("eval base --data prompts.jsonl --response-length 4", "no reward given: pass --reward or --reward-"),
    ],
)
def test_a_mistake_is_one_line(there, capsys, words, message):
    before = sorted(there.iterdir())
    assert message in mistake(capsys, *words.split())
    assert sorted(there.iterdir()) == before  # nothing to clear away before the next try


def test_a_reward_function_that_fails_is_named_with_its_prompt(there, capsys):
    words = [*SAMPLED, "--reward", "rewards_of_mine:broken", "--quiet", "--out", "failed"]
    said = mistake(capsys, "ppo", "base", *words)
    assert "broken raised ZeroDivisionError: no denominator for completion 0" in said and "(prompt: '" in said


# ---- processes of their own


def command(place, *words, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "proximo", "lm", *words],
        cwd=place,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_run_goes_on_bit_for_bit(place):
    words = ["ppo", "base", *SAMPLED, "--episodes", "16", "--reward", "rewards_of_mine:ones", "--quiet"]
    words += ["--kl", "adaptive-kl:0.1", "--critic", "separate", "--checkpoint-every", "0"]
    unharmed = command(place, *words, "--out", "unharmed")
    killed = command(place, *words, "--out", "killed", KILLED_IN_CALL="3")
    out, err = killed.communicate(timeout=180)
    assert killed.returncode == -signal.SIGKILL and out == err == ""
    assert len(numbers_of(place / "killed")) == 2 and not (place / "killed" / "model").exists()
    again = command(place, "ppo", "--resume", "killed", "--reward", "rewards_of_mine:ones", "--quiet")
    for process in (unharmed, again):
        out, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
    assert numbers_of(place / "killed") == numbers_of(place / "unharmed")
    models = [(place / run / "model" / "model.safetensors").read_bytes() for run in ("killed", "unharmed")]
    assert models[0] == models[1]


def test_an_interrupt_leaves_a_model_to_go_on_from(place):
    words = [
        *SAMPLED,
        "--episodes",
        "1000000",
        "--reward",
        "rewards_of_mine:ones",
        "--out",
        "grpo",
        "--quiet",
    ]
    process = command(place, "grpo", "base", *words, **AS_A_USER_HAS_IT)
    mistaken = command(place, "dpo", "base", "--data", "nowhere.jsonl")
    deadline = time.monotonic() + 180
    while not (place / "grpo" / "metrics.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err
    assert out.splitlines()[-1] == "next: proximo lm chat grpo"
    assert (place / "grpo" / "model" / "model.safetensors").exists()
    out, err = mistaken.communicate(timeout=120)
    assert mistaken.returncode == 2 and out == ""
    assert err == "proximo lm dpo: nowhere.jsonl cannot be read (No such file or directory)\n"


def test_known_words_from_a_file_train_with_dpo(place):
    text = 'model_name_or_path = "base"\ndataset_name = "pairs.jsonl"\nloss_type = "ipo"\nlora_r = 2'
    (place / "dpo.toml").write_text(text)
    process = command(
        place, "dpo", "--config", "dpo.toml", "--per-device-train-batch-size", "10", "--out", "dpo"
    )
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert out.startswith("2 of 2 iterations, ")  # 20 pairs in batches of 10
    config = json.loads((place / "dpo" / "config.json").read_text())["options"]
    assert config["loss"]["name"] == "IPOLoss" and config["model"]["lora_rank"] == 2
