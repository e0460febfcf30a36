"""A policy at play is what `evaluate` plays; the film shows every step of it."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
from drawn import Drawn
from PIL import Image, ImageSequence
from probes import Probe, small

import proximo
from proximo import UserError, evaluate, training
from proximo.cli import main
from proximo.control import screen, watch
from proximo.control.watch import EpisodeState, captioned, record_video
from proximo.errors import EnvironmentDiffers

TINY = dict(num_envs=2, horizon=16, minibatch_size=32, epochs=1, steps=32, hidden=(4,))

# Agents of the plainest probe play all the others here.
pytestmark = pytest.mark.filterwarnings("ignore::proximo.errors.EnvironmentDiffers")


@pytest.fixture(autouse=True)
def no_screen(monkeypatch):
    """Pictures are drawn in memory, whatever this machine has."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


@pytest.fixture(scope="module")
def agent():
    return next(training(small(Probe, num_envs=2, minibatch_size=32, epochs=1))).agent


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return proximo.train("CartPole-v1", out=tmp_path_factory.mktemp("run") / "run", **TINY)


def mp4(path):
    """The pictures of a film, and how many it shows per second."""
    words = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(words, capture_output=True, check=True)
    said = done.stderr.decode()
    width, height = map(int, re.search(r", (\d+)x(\d+)[ ,]", said).groups())
    rate = float(re.search(r"([\d.]+) fps", said).group(1))
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3), rate


def test_a_film_of_cartpole_through_the_command(run, tmp_path, capsys):
    path = tmp_path / "play.mp4"
    words = ["watch", str(run.folder), "--video", str(path), "--seed", "3", "--episodes", "2", "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    pictures, _ = mp4(path)
    # A picture for each observation: an episode of n steps has n + 1.
    lengths = [episode["length"] for episode in said["episodes"]]
    assert pictures.shape == (sum(lengths) + 2, 400, 600, 3)
    assert pictures.std() > 10  # something is to be seen
    # It is what `evaluate` plays.
    assert said["episodes"][0]["return"] == evaluate(run.agent, episodes=1, seed=3).returns[0]
    assert main([*words[:4], "--sampled", "--fps", "100"]) == 0
    assert f"video: {path}" in capsys.readouterr().out
    assert mp4(path)[1] == 100


def test_a_film_is_of_the_environment_that_was_trained_in(run, tmp_path):
    with pytest.warns(EnvironmentDiffers, match="max_episode_steps is 3, in training it was not given"):
        ends = record_video(run.agent, tmp_path / "play.gif", env_kwargs={"max_episode_steps": 3})
    assert ends == [EpisodeState(1, 3, 3.0, True)]
    agent = proximo.load(run.folder)
    agent.environment = replace(agent.environment, kwargs={"max_episode_steps": 2})
    assert record_video(agent, tmp_path / "play.gif") == [EpisodeState(1, 2, 2.0, True)]
    with pytest.raises(UserError, match="Pendulum-v1 has different observations or actions than CartPole-v1"):
        record_video(run.agent, tmp_path / "play.gif", "Pendulum-v1")


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_every_step_is_in_the_film(agent, tmp_path, suffix):
    path = tmp_path / f"play{suffix}"
    assert record_video(agent, path, Drawn, episodes=2) == [
        EpisodeState(1, 3, 4.5, True),
        EpisodeState(2, 3, 4.5, True),
    ]
    if suffix == ".gif":
        with Image.open(path) as animation:
            assert animation.info["duration"] == 200  # ms, from render_fps
            pictures = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(animation)]
    else:
        pictures, rate = mp4(path)
        assert rate == 5
    grey = [int(picture[30, 30, 0]) for picture in pictures]
    assert np.allclose(grey, [0, 50, 100, 150] * 2, atol=10)


def test_the_moments_of_an_episode(agent):
    seen = list(watch.moments(watch.Evaluator(agent, screen.make_drawn(Drawn, "rgb_array"), 0, True), 2))
    assert seen == [
        EpisodeState(episode, step, 1.5 * step, step == 3) for episode in (1, 2) for step in (0, 1, 2, 3)
    ]


def test_a_caption_is_written_on_any_ground():
    for ground in (0, 127, 255):
        picture = np.full((400, 600, 3), ground, np.uint8)
        marked = captioned(picture, EpisodeState(1, 7, -1234.5, False))
        assert marked.shape == picture.shape and np.ptp(marked) >= 120
        assert (marked[100:] == ground).all() and not (marked[:40] == ground).all()
        assert not np.array_equal(marked, captioned(picture, EpisodeState(1, 8, -1234.5, False)))


def test_an_episode_without_an_end_is_cut(agent, tmp_path, monkeypatch):
    class Endless(Drawn):
        def turn(self, action):
            self.clock += 1
            return 1.0, False, False

    monkeypatch.setattr(watch, "LONGEST", 5)
    assert record_video(agent, tmp_path / "play.gif", Endless, episodes=3) == [EpisodeState(1, 5, 5.0, True)]


BRIGHT = np.zeros((4, 6, 3), np.uint8)  # left half black, right half of colour (100, 150, 200)
BRIGHT[:, 3:] = 100, 150, 200
GREY = np.repeat(BRIGHT[..., :1], 3, axis=-1)
SEEN = [
    ("as it should be", BRIGHT, BRIGHT),
    ("with how opaque it is", np.concatenate([BRIGHT, np.full((4, 6, 1), 9, np.uint8)], axis=-1), BRIGHT),
    ("channels in front", np.moveaxis(BRIGHT, -1, 0), BRIGHT),
    ("int64", BRIGHT.astype(np.int64), BRIGHT),
    ("float32 from 0 to 1", (BRIGHT / 255).astype(np.float32), BRIGHT),
    ("grey", BRIGHT[..., 0], GREY),
    ("grey with an axis", BRIGHT[..., :1], GREY),
    ("grey in front", BRIGHT[None, ..., 0], GREY),
    ("switched on and off", BRIGHT[..., 0] > 0, np.where(GREY > 0, 255, 0)),
    ("lists", BRIGHT.tolist(), BRIGHT),
    ("an image", Image.fromarray(BRIGHT), BRIGHT),
]


@pytest.mark.parametrize(("found", "picture"), [case[1:] for case in SEEN], ids=[case[0] for case in SEEN])
def test_pictures_of_every_clear_kind(found, picture):
    seen = screen.as_picture(found)
    assert seen.dtype == np.uint8 and np.array_equal(seen, picture)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            None,
            r"does not draw itself \(its render\(\) returns None\): to see it, list 'rgb_array' in metadata",
        ),
        ("a board", "draws a str instead of pictures"),
        ([BRIGHT, BRIGHT], r"draws arrays of shape \(2, 4, 6, 3\) instead of pictures"),
        (BRIGHT.astype(float), "draws float64 from 0 to 200: return uint8, or brightness from 0 to 1"),
        (
            BRIGHT.astype(np.int64) + 100,
            "draws int64 from 100 to 300: return uint8, or brightness from 0 to 255",
        ),
        (-BRIGHT.astype(np.int8), "draws int8 from "),
        (np.full((4, 6, 3), np.nan), "draws float64 from nan to nan"),
        (
            np.zeros((6, 5, 7), np.uint8),
            r"draws arrays of shape \(6, 5, 7\): return uint8 \[height, width, 3\]",
        ),
        (np.zeros((0, 6, 3), np.uint8), r"draws arrays of shape \(0, 6, 3\)"),
    ],
)
def test_pictures_whose_meaning_is_not_clear_are_refused(agent, tmp_path, found, reason):
    class Draws(Drawn):
        def render(self):
            return found

    with pytest.raises(UserError, match=f"Draws {reason}") as raised:
        record_video(agent, tmp_path / "play.gif", Draws)
    assert "\n" not in str(raised.value)


class Undrawn(Probe):
    """Takes no render_mode."""


class Told(Probe):
    """Takes one, and draws nothing of a kind that can be seen."""

    def __init__(self, render_mode=None):
        self.render_mode = render_mode


class Written(Told):
    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012

    def render(self):
        return "a board"


class Forgets(Drawn):
    """Takes one and does not keep it."""

    def __init__(self, render_mode=None):
        self.render_mode = None


for own in (Undrawn, Told, Written, Forgets):
    gym.register(f"{own.__name__}-v0", own)


@pytest.mark.filterwarnings("error", "ignore::proximo.errors.EnvironmentDiffers")
@pytest.mark.parametrize(
    ("env", "film", "window"),
    [
        (Undrawn, "it takes no render_mode, and its", "it takes no render_mode, and its"),
        (
            Told,
            r"its render\(\) returns None|'render_modes'\] is \[\]",
            r"its metadata\['render_modes'\] is \[\]",
        ),
        (Written, "render_mode", r"its metadata\['render_modes'\] is \['ansi'\]"),
        (Forgets, None, "its render_mode is None: set self.render_mode in __init__"),
    ],
)
def test_an_environment_that_does_not_draw_is_told_in_one_line_before_it_plays(
    agent, tmp_path, monkeypatch, env, film, window
):
    monkeypatch.setenv("DISPLAY", ":0")
    for where in (env, f"{env.__name__}-v0"):
        with pytest.raises(UserError, match=rf"does not draw itself \(({window})") as caught:
            next(watch.watch(agent, where))
        assert "\n" not in str(caught.value) and "return a picture from render(), uint8" in str(caught.value)
        if film is not None:
            with pytest.raises(UserError, match=film):
                record_video(agent, tmp_path / "play.gif", where)
            assert not (tmp_path / "play.gif").exists()


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_pictures_that_change_their_size_are_fitted_in(agent, tmp_path, suffix):
    class Grows(Drawn):
        """40 x 60 pixels, then 80 x 120, then 80 x 60: the window of somebody who plays with it."""

        def render(self):
            size = [(40, 60), (80, 120), (80, 60), (40, 60)][self.clock]
            return np.full((*size, 3), 200, np.uint8)

    path = tmp_path / f"play{suffix}"
    record_video(agent, path, Grows)
    if suffix == ".gif":
        with Image.open(path) as animation:
            pictures = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(animation)]
    else:
        pictures, _ = mp4(path)
    # Nothing is cut: the tall one, half as large, is 40 high and 30 wide, with black to its left and right.
    assert [picture.shape for picture in pictures] == [(40, 60, 3)] * 4
    middle = np.array([picture[35, [5, 30, 55], 0] for picture in pictures], int)
    expected = [[200, 200, 200], [200, 200, 200], [0, 200, 0], [200, 200, 200]]
    np.testing.assert_allclose(middle, expected, atol=15)


def test_a_window_where_there_is_a_screen(agent, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    seen = list(watch.watch(agent, Drawn, fps=50))
    assert [moment.step for moment in seen] == [0, 1, 2, 3]
    shown = Drawn.made[-1]
    assert shown.render_mode == "human" and shown.metadata["render_fps"] == 50
    assert Drawn.metadata["render_fps"] == 5


# ---- what cannot be


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is no screen to open a window on: use --video FILE.mp4"),
        (["--video", "play.avi"], "neither .mp4 nor .gif"),
        (["--video", "nowhere/play.mp4"], "there is no folder nowhere"),
        (["--video", "play.mp4", "--episodes", "0"], "episodes is 0"),
    ],
)
def test_mistakes_of_the_command(run, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["watch", str(run.folder), *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_an_environment_that_cannot_be_drawn(agent, tmp_path):
    class Failing(Drawn):
        def render(self):
            raise RuntimeError("no light")

    with pytest.raises(UserError, match="could not be drawn: RuntimeError: no light"):
        record_video(agent, tmp_path / "play.gif", Failing)
    with pytest.raises(UserError, match="to show it, pass an id, a class or a function"):
        record_video(agent, tmp_path / "play.gif", gym.make("CartPole-v1"))
    with pytest.raises(UserError, match="does not draw itself"):
        record_video(agent, tmp_path / "play.gif", Probe)  # its constructor knows no render_mode


def test_a_film_that_cannot_be_written(agent, tmp_path):
    for name in ("play.mp4", "play.gif"):
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match="cannot write") as caught:
            record_video(agent, tmp_path / name, Drawn)
        assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(agent, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(
        UserError, match=r'imageio_ffmpeg, which is not installed: pip install "proximo\[video\]"'
    ):
        record_video(agent, tmp_path / "play.mp4", Drawn)


@pytest.mark.parametrize(
    ("working", "chosen"), [(["egl", "osmesa"], "egl"), (["osmesa"], "osmesa"), ([], None)]
)
def test_mujoco_takes_what_works(monkeypatch, working, chosen):
    class Tried:
        def __init__(self, words, **_):
            self.returncode = int(not any(name in words[-1] for name in working))

    monkeypatch.setattr(screen.subprocess, "run", Tried)
    monkeypatch.setenv("MUJOCO_GL", "to be restored at the end")
    monkeypatch.delenv("MUJOCO_GL")
    screen.choose_offscreen()
    assert screen.os.environ.get("MUJOCO_GL") == chosen


def test_the_users_own_choice_stands(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.setattr(screen.subprocess, "run", None)
    screen.choose_offscreen()
    assert screen.os.environ["MUJOCO_GL"] == "glfw"
