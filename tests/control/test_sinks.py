"""Who else is told how a run goes: the same numbers, and no effect on the run."""

import json
import sys

import pytest
from drawn import Drawn
from event_files import events, points
from probes import Ends, Probe, equal, small

import proximo
from proximo import UserError, training
from proximo.cli import main
from proximo.control.files import control_files
from proximo.control.run import train_config
from proximo.control.sinks import SinkOptions, VideoSink
from proximo.runs.folder import RunFolder
from proximo.runs.sinks import Sinks, TensorBoard, find_wandb_id

TINY = dict(num_envs=2, horizon=16, minibatch_size=32, epochs=1)
SMALL = small(Ends, steps=70, **TINY)
KEY = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_API_KEY", KEY)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_tensorboard_gets_every_metric(tmp_path):
    run = proximo.train(Ends, out=tmp_path / "run", tensorboard=True, steps=70, hidden=(4,), **TINY)
    written = {(step, tag): value for step, tag, value in points(run.folder / "tb")}
    expected = {
        (line["time/total_timesteps"], name): value
        for line in lines(run.folder)
        for name, value in line.items()
    }
    assert written == pytest.approx(expected, rel=1e-6)
    texts = [
        value.tensor.string_val[0].decode()
        for event in events(run.folder / "tb")
        for value in event.summary.value
        if value.tensor.string_val
    ]
    assert len(texts) == 1 and '"gamma": 0.99' in texts[0]


def test_a_run_that_goes_on_replaces_what_it_does_again(tmp_path):
    first, second, third = list(training(SMALL))
    folder = RunFolder.create(control_files(SMALL), tmp_path / "run")
    for iterations in ([first, second], [second, third]):  # cut short after the second, and again from it
        folder.sinks = SinkOptions(tensorboard=True).open(folder.path, SMALL)
        for iteration in iterations:
            folder.log(folder.files.entry(iteration, 1.0), iteration)
        folder.sinks.close()
    starts = [event.step for event in events(folder.path / "tb") if event.HasField("session_log")]
    assert starts == [second.steps]  # readers drop what earlier files hold from this step on
    texts = [e for e in events(folder.path / "tb") for v in e.summary.value if v.tensor.string_val]
    assert len(texts) == 1


def test_weights_and_biases_offline(tmp_path, capfd):
    wandb = pytest.importorskip("wandb")
    config = small(Ends, steps=70, **TINY)
    run = train_config(config, out=tmp_path / "run", sinks=SinkOptions(wandb=True, wandb_project="cats"))
    wandb.teardown()
    (record,) = run.folder.glob("wandb/offline-run-*/run-*.wandb")
    content = record.read_bytes()
    for name in lines(run.folder)[-1]:
        assert name.encode() in content, name
    assert b"cats" in content
    # The key is nobody's business: it is in no file, and was not said.
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    assert KEY not in "".join(capfd.readouterr())
    assert find_wandb_id(run.folder / "wandb") == record.stem.removeprefix("run-")
    assert proximo.load(run.folder).name == "Ends"


def test_the_run_is_the_same_whoever_watches(tmp_path):
    config = small(Drawn, steps=64, **TINY)
    alone = train_config(config, out=tmp_path / "alone")
    sinks = SinkOptions(tensorboard=True, video_every=32)
    watched = train_config(config, out=tmp_path / "watched", sinks=sinks)
    assert equal(alone.agent.policy, watched.agent.policy)
    assert (alone.folder / "episodes.csv").read_bytes() == (watched.folder / "episodes.csv").read_bytes()
    films = sorted(film.name for film in (watched.folder / "videos").iterdir())
    steps = [line["time/total_timesteps"] for line in lines(watched.folder)]
    due = [now for before, now in zip([0, *steps], steps, strict=False) if now // 32 > before // 32]
    assert films == [f"step-{now:09d}.mp4" for now in due] and len(films) == 2


def test_a_film_that_is_there_is_not_made_again(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "step-000000110.mp4").touch()
    (tmp_path / "videos" / "step-best.mp4").touch()  # somebody else's
    assert VideoSink(tmp_path, Drawn, 50).done == 2
    assert VideoSink(tmp_path / "elsewhere", Drawn, 50).done == 0


def test_every_member_of_an_ensemble_is_told_of(tmp_path):
    runs = proximo.train_ensemble(
        Ends, seeds=2, out=tmp_path, tensorboard=True, steps=64, hidden=(4,), **TINY
    )
    for run in runs:
        assert {step for step, _, _ in points(run.folder / "tb")} == {
            line["time/total_timesteps"] for line in lines(run.folder)
        }


def test_the_command(tmp_path, capsys):
    words = ["train", "CartPole-v1", "--steps", "1024", "--epochs", "1", "--hidden", "4", "--quiet"]
    folder = tmp_path / "run"
    assert main([*words, "--out", str(folder), "--tensorboard", "--video-every", "500"]) == 0
    assert len(list(folder.glob("tb/events.*"))) == 1
    assert len(list(folder.glob("videos/*.mp4"))) == 2  # of two iterations, less than 1024 steps each
    assert capsys.readouterr().err == ""
    assert main([*words, "--out", str(tmp_path / "two"), "--seeds", "2", "--tensorboard"]) == 0
    assert len(list(tmp_path.glob("two/seed-*/tb/events.*"))) == 2


# ---- what goes wrong


class Broken:
    closed = False

    def log(self, metrics, iteration):
        raise OSError(f"no way to {KEY}\nat all")

    def close(self):
        self.closed = True


def test_a_sink_that_fails_is_left_out_and_the_run_goes_on(tmp_path, capsys):
    class Counting(Broken):
        count = 0

        def log(self, metrics, iteration):
            self.count += 1

    broken, sound = Broken(), Counting()
    sinks = Sinks(broken, sound)
    for iteration in training(SMALL):
        sinks.log({}, iteration)
    sinks.close()
    assert sound.count == 3 and sound.closed and not broken.closed
    assert capsys.readouterr().err == "Broken failed and is disabled: OSError: no way to ... at all\n"


@pytest.mark.parametrize(
    ("options", "missing", "message"),
    [
        (dict(tensorboard=True), "tensorboardX", r'pip install "proximo\[tensorboard\]"'),
        (dict(wandb=True), "wandb", r'pip install "proximo\[wandb\]"'),
        (dict(video_every=100), "imageio_ffmpeg", r'pip install "proximo\[video\]"'),
        (dict(video_every=0), "", "video_every is 0: it must be at least 1"),
        (dict(video_every=100), "", "Probe does not draw itself"),
    ],
)
def test_what_cannot_be_is_said_before_there_is_a_run(tmp_path, monkeypatch, options, missing, message):
    monkeypatch.setitem(sys.modules, missing, None)
    for train in (proximo.train, proximo.train_ensemble):
        with pytest.raises(UserError, match=message):
            train(Probe, out=tmp_path / "run", **options, **TINY)
    assert not (tmp_path / "run").exists()


def test_weights_and_biases_without_a_login(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")

    def refuse(**_):
        raise RuntimeError(f"the key {KEY} is not good\nat all")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match="WANDB_MODE=offline needs no login") as caught:
        SinkOptions(wandb=True).open(tmp_path, SMALL)
    assert KEY not in str(caught.value) and "\n" not in str(caught.value)


def test_no_sink_unless_somebody_asks(tmp_path):
    assert SinkOptions().open(tmp_path, SMALL).sinks == []
    assert isinstance(SinkOptions(tensorboard=True).open(tmp_path, SMALL).sinks[0], TensorBoard)
    assert list(tmp_path.iterdir()) == []
