"""`lm new`, `lm chat` and `--show-samples`: a model of one's own, talked with, looked at as it learns."""

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from workplace import workplace

from proximo import language
from proximo.cli import main
from proximo.commands.lm_chat import Conversation
from proximo.errors import UserError
from proximo.language.train.respond import GenerationOptions

SPOKEN = [
    {"messages": [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": f"{i} {i}"}]}
    for i in range(10)
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Models made of texts: `base`, which continues, and `chat`, which has a template."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "chat.jsonl").write_text("".join(json.dumps(one) + "\n" for one in SPOKEN))
    (folder / "texts.jsonl").write_text(
        "".join(json.dumps({"text": f"one two {i}"}) + "\n" for i in range(9))
    )
    (folder / "plain.txt").write_text("the sea and the sky\nand the film\n")
    small = ["--layers", "1", "--width", "32", "--context", "96"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["lm", "new", "base", "--texts", "texts.jsonl", *small]) == 0
        assert main(["lm", "new", "chat", "--texts", "chat.jsonl", *small]) == 0
        yield folder


# ---- a model of one's own


def test_a_new_model_of_ones_own_texts_is_trained_by_sft(place, capsys):
    words = ["--epochs", "1", "--batch-size", "4", "--quiet", "--json"]
    for name, data in (("base", "texts.jsonl"), ("chat", "chat.jsonl")):
        assert main(["lm", "sft", name, "--data", data, *words, "--out", f"tuned-{name}"]) == 0
        assert json.loads(capsys.readouterr().out)["metrics"]["loss"] > 0
    assert main(["lm", "generate", "tuned-chat", "--chat", "--prompt", "say 3", "--json"]) == 0


def test_its_tokenizer_is_learned_from_the_texts_and_has_ids_for_any_other(place, capsys):
    assert main(["lm", "new", "sea", "--texts", "plain.txt", "--vocabulary", "300", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["layers"], made["width"], made["chat"]) == (4, 128, False)  # the smallest of the usual sizes
    assert made["vocabulary"] <= 300 and made["characters"] == 33
    model = language.load(place / "sea")
    for text in ("and the sea", "ΑΒΓ 🎬 \n\t x"):
        assert model.tokenizer.decode(model.tokenizer.encode(text)) == text
    assert len(model.tokenizer.encode(" the")) == 1  # it occurs often enough for a token of its own
    assert len(model.tokenizer.encode(" zzz")) == 4
    assert model.config.context == 256 and model.tokenizer.token(model.tokenizer.eos_id) == "<|endoftext|>"


def test_python_makes_the_same_model_as_the_command(place):
    small = dict(layers=1, width=32, context=96)
    for data in ("chat.jsonl", SPOKEN):  # a file, or the records themselves
        made = language.new(place / f"by-{type(data).__name__}", texts=data, **small)
        for name in ("model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"):
            assert (made / name).read_bytes() == (place / "chat" / name).read_bytes()
    with pytest.raises(UserError, match="already exists: choose another folder"):
        language.new(made, texts="chat.jsonl")
    with pytest.raises(UserError, match="depth"):
        language.new(place / "x", texts="chat.jsonl", depth=3)


def test_transformers_reads_it_with_equal_ids(place):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(place / "chat")
    ours = language.load(place / "chat").tokenizer
    messages = SPOKEN[4]["messages"]
    written = theirs.apply_chat_template(messages, tokenize=False)
    assert written == ours.chat(messages, False) and theirs(written)["input_ids"] == ours.encode(written)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["base", "--texts", "texts.jsonl"], "base already exists"),
        (["x", "--texts", "nowhere.txt"], "cannot be read (No such file"),
        (["x", "--texts", "empty.txt"], "has no text"),
        (["x", "--texts", "latin.txt"], "is not UTF-8 text"),
        (["x", "--texts", "texts.jsonl", "--width", "100"], "it must be a multiple of 32"),
        (["x", "--texts", "texts.jsonl", "--vocabulary", "10"], "vocabulary is 10"),
        (["x"], "--texts"),
    ],
)
def test_what_no_model_can_be_made_of_is_one_line(place, capsys, words, said):
    (place / "empty.txt").write_text("\n \n")
    (place / "latin.txt").write_bytes("é".encode("latin-1"))
    assert main(["lm", "new", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error and not (place / "x").exists()


# ---- talking with it


def talked(monkeypatch, capsys, text, *words):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    status = main(["lm", "chat", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.parametrize("end", ["/exit\nsay 5\n", "/quit\n", ""])  # the last is Ctrl-D
def test_lines_from_a_pipe_are_answered_until_the_end(place, monkeypatch, capsys, end):
    text = f"say 3\n\n   \nsay 4\n{end}"
    words = ["chat", "--max-new-tokens", "4", "--json"]
    status, out, err = talked(monkeypatch, capsys, text, *words)
    assert (status, err) == (0, "") and len(out.splitlines()) == 2
    assert [set(json.loads(line)) for line in out.splitlines()] == [{"completion", "tokens", "finished"}] * 2


def test_a_conversation_is_remembered_until_a_new_one_begins(place):
    talk = Conversation(language.load(place / "chat"), GenerationOptions(max_new_tokens=2), "be brief")
    talk.answer("say 1")
    talk.answer("say 2")
    assert [one["role"] for one in talk.messages] == ["user", "assistant"] * 2
    assert talk.first == [{"role": "system", "content": "be brief"}]
    talk.forget()
    talk.answer("say 3")
    assert talk.messages[0]["content"] == "say 3"


def test_the_oldest_turns_are_forgotten_where_the_context_is_full(place):
    talk = Conversation(language.load(place / "chat"), GenerationOptions(max_new_tokens=2))
    for number in range(8):
        talk.answer(f"say {number}")
    assert talk.messages[-2]["content"] == "say 7" and len(talk.messages) < 16


def test_without_a_chat_template_each_line_is_continued(place, monkeypatch, capsys):
    status, out, err = talked(monkeypatch, capsys, "one two\n", "base", "--max-new-tokens", "3", "--greedy")
    (expected,) = language.load(place / "base").generate("one two", max_new_tokens=3, greedy=True)
    assert (status, out, err) == (0, f"{expected} ...\n", "")


def test_a_line_that_cannot_be_answered_does_not_end_the_conversation(place, monkeypatch, capsys):
    status, out, err = talked(monkeypatch, capsys, f"{'x ' * 99}\nsay 1\n", "chat", "--json")
    assert status == 0 and out.count("\n") == 1
    assert err.count("\n") == 1 and "write less, or lower --max-new-tokens" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["base", "--system", "x"], "system needs a chat template"),
        (["chat", "--samples", "2"], "one answer per message, so set it to 1"),
        (["nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line(place, monkeypatch, capsys, words, said):
    status, out, err = talked(monkeypatch, capsys, "x\n", *words)
    assert (status, out) == (2, "") and err.count("\n") == 1 and said in err


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="a terminal of this kind is Unix's")
def test_ctrl_c_at_a_terminal_ends_it_cleanly(place):
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "proximo", "lm", "chat", "chat", "--max-new-tokens", "2"]
    process = subprocess.Popen(
        words, cwd=place, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 120
    while b"\n> " not in shown and time.monotonic() < deadline:
        shown += os.read(ours, 1024)
    for _ in range(20):  # C's library may miss the first one, just before it waits
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=3)
            break
    assert process.returncode == 0
    while chunk := _rest(ours):
        shown += chunk
    assert b"/new starts a new conversation" in shown and b"Traceback" not in shown


def _rest(terminal):
    try:
        return os.read(terminal, 1024)
    except OSError:  # nobody is at the other end any more
        return b""


# ---- samples while it learns


def test_samples_are_shown_while_a_policy_learns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(workplace(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    words = ["base", "--data", "prompts.jsonl", "--reward", "rewards_of_mine:ones", "--episodes", "24"]
    words += ["--batch-size", "8", "--response-length", "6", "--samples-every", "2", "--out", "run"]
    assert main(["lm", "ppo", *words, "--show-samples"]) == 0
    said = capsys.readouterr().err
    assert (
        "iteration 1 of 3  reward " in said and "iteration 2 of 3" not in said and "iteration 3 of 3" in said
    )
    row = json.loads((tmp_path / "run/completions.jsonl").read_text().splitlines()[0])
    cut = "" if row["finished"] else " ..."
    assert f"{row['score']:.3g}  {row['prompt']!r} -> {row['completion'] + cut!r}" in said
    assert main(["lm", "sft", "base", "--data", "texts.jsonl", "--show-samples"]) == 2
    assert "--show-samples" in capsys.readouterr().err and not (tmp_path / "runs").exists()
