"""A video of the policy on the page: a part of the file, of bounded size, and only from the run's folder."""

import base64
import json
import os

import pytest
from test_report import study, write_run
from test_report_page import Whole, dangers

from proximo.runs.report import page
from proximo.runs.report.video import COMMAND, LARGEST

MP4 = b"\0\0\0\x20ftypisom"  # how such a file begins
FRAMES = {"kind": "Box", "low": "0", "high": "255", "shape": [4, 84, 84], "dtype": "uint8"}
NUMBERS = {"kind": "Box", "low": "0.0", "high": "1.0", "shape": [4], "dtype": "float32"}


def write_video(path, recorded, content=b"", size=0):
    """A file that begins as an MP4, with this content, of at least so many bytes, from this second."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((MP4 + content).ljust(size, b"."))
    os.utime(path, (recorded, recorded))


def write_space(folder, space):
    (folder / "model" / "model.json").write_text(json.dumps({"observation_space": space}))


def shown(*folders):
    """The page, and the content of the video on it after its first bytes, or None."""
    whole = Whole(page(study(*folders)))
    assert whole.wrong == [] and dangers(whole) == []
    assert whole.tags.count("video") == whole.text.count("Each frame shows") <= 1
    found = [value for name, value in whole.attributes if name == "src"]
    return whole, base64.b64decode(found[0].partition(",")[2]).removeprefix(MP4) if found else None


def test_the_newest_video_that_fits_is_a_part_of_the_page(tmp_path):
    folder = write_run(tmp_path / "run")
    assert shown(folder)[1] is None
    write_video(folder / "videos" / "step-000000200.mp4", 1000, b"early")
    write_video(folder / "videos" / "step-000000450.mp4", 2000, b"late")
    write_video(folder / "huge.mp4", 3000, size=LARGEST + 1)
    (folder / "text.mp4").write_text("no video, and newer than all of them")
    whole, content = shown(folder)
    # Rows of metrics lie at 100, 200, ..., 600 steps, and each has a mean return of 10.
    assert content == b"late"
    assert "An episode after 450 steps; mean training return then: 10" in whole.text
    write_video(folder / "play.mp4", 4000, b"watched", size=LARGEST)
    whole, content = shown(folder)
    assert content.startswith(b"watched") and "play.mp4, recorded 1970-01-01 01:06 UTC" in whole.text


def test_of_several_runs_the_newest_is_shown_with_the_name_of_its_run(tmp_path):
    for seed in range(2):
        folder = write_run(tmp_path / "runs" / f"seed-{seed}", seed=seed)
        write_video(folder / "videos" / "step-000000300.mp4", 1000 - seed, f"seed {seed}".encode())
    whole, content = shown(tmp_path / "runs")
    assert content == b"seed 0" and "runs/seed-0: An episode after 300 steps" in whole.text


def test_a_video_that_is_too_large_is_named(tmp_path):
    folder = write_run(tmp_path / "run")
    write_video(folder / "long.mp4", 1000, size=LARGEST + 1)
    whole, content = shown(folder)
    assert content is None
    assert "long.mp4 is not shown: it is no MP4 file of at most 2 MB." in whole.text


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path):
    folder = write_run(tmp_path / "run")
    write_video(tmp_path / "private" / "step-000000100.mp4", 1000, b"private")
    (folder / "linked.mp4").symlink_to(tmp_path / "private" / "step-000000100.mp4")
    (folder / "videos").symlink_to(tmp_path / "private")
    assert shown(folder)[1] is None


@pytest.mark.parametrize(
    ("space", "images"),
    [
        (FRAMES, True),
        ({"kind": "Dict", "spaces": [["speed", NUMBERS], ["camera", FRAMES]]}, True),
        ({"kind": "Tuple", "spaces": [NUMBERS, FRAMES]}, True),
        (NUMBERS, False),
        ([[[]]], False),
    ],
)
def test_where_a_policy_sees_images_the_page_says_how_to_make_a_video(tmp_path, space, images):
    folder = write_run(tmp_path / "run")
    write_space(folder, space)
    assert (COMMAND in shown(folder)[0].text) == images
    write_video(folder / "play.mp4", 1000)
    assert COMMAND not in shown(folder)[0].text


def test_the_names_of_files_are_text(tmp_path):
    folder = write_run(tmp_path / "run")
    write_video(folder / "<script>alert(1)<" / "a.mp4", 1000)  # in a folder of another name: not looked at
    write_video(folder / '"onload="x<b>.mp4', 1000, b"odd")
    assert shown(folder)[1] == b"odd"
