"""Logs of a run that goes on are cut back to its checkpoint, and nothing of them is lost."""

import csv
import json

from proximo.control.files import step_of_episode
from proximo.runs.logs import keep_until, last_seconds, step_under


def test_later_and_torn_lines_are_moved_away(tmp_path):
    lines = [json.dumps({"time/total_timesteps": steps}) + "\n" for steps in (10, 20, 30)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"time/total_times')
    keep_until(tmp_path, "metrics.jsonl", 20, step_under("time/total_timesteps"))
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(lines[:2])
    gone = (tmp_path / "superseded" / "metrics.jsonl").read_text()
    assert gone == lines[2] + '{"time/total_times\n'
    (tmp_path / "episodes.csv").write_text("step,env,return,length,terminated\r\n5,0,1.5,3,1\r\n25,0,2.")
    keep_until(tmp_path, "episodes.csv", 20, step_of_episode)
    rows = list(csv.reader((tmp_path / "episodes.csv").open()))
    assert rows == [["step", "env", "return", "length", "terminated"], ["5", "0", "1.5", "3", "1"]]
    keep_until(tmp_path, "nowhere.csv", 20, step_of_episode)  # a log that is not there is no failure


def test_the_clock_goes_on(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"time/time_elapsed": 3.0}\n{"time/time_elapsed": 1000.0}\n')
    assert last_seconds(tmp_path) == 1000.0
    for unknown in ("", '{"time/time_elapsed": "x"}', "[" * 100_000):
        (tmp_path / "metrics.jsonl").write_text(unknown)
        assert last_seconds(tmp_path) == 0.0


def test_logs_are_cut_without_changing_a_byte_of_what_stays(tmp_path):
    # csv ends its lines with CRLF; a return may hold a character that only str.splitlines takes for an end.
    head, first, second = b"step,env,return,length,terminated\r\n", b"8,0,1.0,3,1\r\n", b"16,1,2.0,3,0\r\n"
    (tmp_path / "episodes.csv").write_bytes(head + first + second + b"24,1,")
    keep_until(tmp_path, "episodes.csv", 8, step_of_episode)
    assert (tmp_path / "episodes.csv").read_bytes() == head + first
    assert (tmp_path / "superseded" / "episodes.csv").read_bytes() == second + b"24,1,\n"
