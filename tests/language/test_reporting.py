"""Who else is told how a language model learns: TensorBoard and Weights & Biases."""

import json
import sys

import pytest
from event_files import events, points
from workplace import workplace

from proximo import language
from proximo.errors import UserError
from proximo.language.files.model_options import ModelOptions
from proximo.language.train.sft import SFTOptions
from proximo.options import as_json, from_json


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    return workplace(tmp_path_factory.mktemp("place"))


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def tuned(there, name, **options):
    words = dict(model=there / "base", data=there / "texts.jsonl", packing=False, batch_size=6, epochs=2)
    return language.sft(**words, out=there / name, **options)


def drawn(folder):
    return {(step, tag): value for step, tag, value in points(folder / "tb")}


def logged(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {(row["step"], name): x for row in rows for name, x in row.items() if name != "step"}


def test_tensorboard_gets_every_metric_of_every_iteration(there):
    run = tuned(there, "drawn", tensorboard=True)
    assert drawn(run.folder) == pytest.approx(logged(run.folder), rel=1e-6)
    assert {step for step, _ in drawn(run.folder)} == {1, 2, 3, 4}
    (text,) = (
        v.tensor.string_val[0]
        for e in events(run.folder / "tb")
        for v in e.summary.value
        if v.tensor.string_val
    )
    assert '"learning_rate": ' in text.decode()


def test_a_run_that_goes_on_is_drawn_on(there):
    tuned(there, "late", tensorboard=True, max_time=0.0)
    assert {step for step, _ in drawn(there / "late")} == {1}
    language.resume(there / "late")  # its options say who is told
    assert drawn(there / "late") == pytest.approx(logged(there / "late"), rel=1e-6)
    assert {step for step, _ in drawn(there / "late")} == {1, 2, 3, 4}


def test_weights_and_biases_offline(there):
    wandb = pytest.importorskip("wandb")
    run = tuned(there, "told", wandb=True, wandb_project="cats")
    wandb.teardown()
    (record,) = run.folder.glob("wandb/offline-run-*/run-*.wandb")
    content = record.read_bytes()
    assert b"cats" in content and all(name.encode() in content for _, name in logged(run.folder))


def test_nobody_is_told_unless_asked(there):
    run = tuned(there, "alone")
    assert not (run.folder / "tb").exists() and not (run.folder / "wandb").exists()


def test_a_missing_package_is_told_before_there_is_a_run(there, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match="tensorboard"):
        tuned(there, "never", tensorboard=True)
    assert not (there / "never").exists()


def test_options_written_before_there_were_reports_are_read():
    options = SFTOptions(data="x", model=ModelOptions(model="y"))
    written = as_json(options)
    del written["run"]["reports"]
    assert from_json(SFTOptions, written, "config.json") == options
