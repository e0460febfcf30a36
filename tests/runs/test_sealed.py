"""Folders are whole or not there, whenever their writer is killed."""

import os
import subprocess
import sys

import pytest

KILLED = """
import os, random, signal, sys, time, warnings
from pathlib import Path
from proximo.errors import UserError
from proximo.runs.sealed import read_folder, write_folder

root, draw = Path(sys.argv[1]), random.Random(0)
content = {name: bytes([number]) * 200_000 for number, name in enumerate(("a", "b", "c"))}
begun = 0
for attempt in range(50):
    child = os.fork()
    if child == 0:
        while True:
            begun += 1
            write_folder(root / f"{begun:012d}", content)   # a new checkpoint
            write_folder(root / "model", {**content, "a": b"%d" % begun})   # replaces the one before
    time.sleep(draw.uniform(0.005, 0.04))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for path in sorted(root.iterdir()):
        if path.name[0] != ".":
            read_folder(path, content)   # whole, or it raises
            begun = max(begun, int(path.name)) if path.name != "model" else begun
    if (root / ".model.old").exists() or (root / "model").exists():
        read_folder(root / "model", content)   # also where the kill came between the two renames
print(begun)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fifty_kills_inside_a_save_leave_only_whole_folders(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0  # it did write in between; how often depends on the disk
