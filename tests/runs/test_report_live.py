"""`proximo report --live`: a page on this machine that follows a running training."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager

import pytest

from proximo.cli import main
from proximo.errors import UserError
from proximo.runs.report.live import HOST, LiveReport

PAGE = (
    '<html><head><meta http-equiv="Content-Security-Policy" content="default-src \'none\'"></head>'
    "<body><main>{}</main></body></html>"
)


@contextmanager
def served(report):
    thread = threading.Thread(target=report.server.serve_forever)
    thread.start()
    try:
        yield report.url
    finally:
        report.server.shutdown()
        report.server.server_close()
        thread.join()


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


@pytest.fixture
def report(tmp_path):
    """A report of one log, which shows what is in it."""
    log = tmp_path / "metrics.jsonl"
    log.write_text("one")
    return LiveReport(lambda: PAGE.format(log.read_text()), lambda: [log], 0), log


def test_the_page_listens_and_its_body_is_what_there_is_now(report):
    live, log = report
    with served(live) as url:
        page = get(url)
        assert "<main>one</main>" in page and 'new EventSource("/events")' in page
        assert "script-src 'unsafe-inline'; connect-src 'self'" in page
        log.write_text("one two")
        assert get(f"{url}body") == "one two"


def test_news_of_a_log_are_told_and_nothing_else(report, monkeypatch):
    monkeypatch.setattr("proximo.runs.report.live.LOOK", 0.02)
    monkeypatch.setattr("proximo.runs.report.live.QUIET", 0.1)
    live, log = report
    with served(live) as url, urllib.request.urlopen(f"{url}events", timeout=20) as events:
        assert events.headers["Content-Type"] == "text/event-stream"
        assert events.readline() == b": listening\n" and events.readline() == b"\n"
        assert events.readline() == b": still here\n" and events.readline() == b"\n"
        log.write_text("more")
        lines = iter(events.readline, b"event: changed\n")
        assert set(lines) <= {b": still here\n", b"\n"}


def test_it_is_for_this_machine_alone(report):
    """Only its own address is bound; a request under a name that somebody else made lead here is refused."""
    live, _ = report
    with served(live) as url:
        port = live.server.server_address[1]
        assert live.server.server_address[0] == HOST == "127.0.0.1"
        for name, status in ((f"{HOST}:{port}", 200), (f"localhost:{port}", 200), ("evil.example", 403)):
            connection = http.client.HTTPConnection(HOST, port, timeout=20)
            connection.request("GET", "/", headers={"Host": name})
            assert connection.getresponse().status == status
            connection.close()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{url}etc/passwd")


def test_a_taken_port_is_named_with_the_next_free_one():
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} cannot be used .*: the next free one is \d+"):
            LiveReport(lambda: "", list, port)


def test_a_training_is_followed(tmp_path):
    """The real command on a run that goes on: the page has the new steps after the news; Ctrl-C ends it."""
    run = tmp_path / "run"
    words = ["--num-envs", "2", "--horizon", "16", "--minibatch-size", "16", "--steps", "64", "--quiet"]
    assert main(["train", "CartPole-v1", *words, "--out", str(run)]) == 0
    command = [sys.executable, "-m", "proximo", "report", str(run), "--live", "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url = json.loads(process.stdout.readline())["url"]
        assert "CartPole-v1" in get(url)
        with urllib.request.urlopen(f"{url}events", timeout=30) as events:
            events.readline()
            lines = (run / "metrics.jsonl").read_text().splitlines()
            row = json.loads(lines[-1]) | {"time/total_timesteps": 98_765}
            with (run / "metrics.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            assert b"event: changed\n" in iter(events.readline, b"")
        assert "98,765" in get(f"{url}body")
    finally:
        os.kill(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
    assert (process.returncode, complaint) == (0, "")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--live", "--out", "a.html"], "--live writes no file"),
        (["--live", "--port", "70000"], "port"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, words, problem):
    assert main(["report", str(tmp_path), *words]) == 2
    complaint = capsys.readouterr().err
    assert problem in complaint and complaint.count("\n") == 1
