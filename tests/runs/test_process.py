"""What belongs to the whole process, and others may change: training goes on all the same."""

import warnings

from probes import Ends, small

from proximo.runs.run import train_config

TINY = dict(num_envs=2, horizon=16, minibatch_size=32, epochs=1, steps=70)


def test_training_passes_where_every_warning_is_an_error(tmp_path):
    # As under `python -W error`, or in a suite of tests with `-W error`. No other test has networks of this
    # width, so the update is traced here, and what is deprecated in it would be told here.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = train_config(small(Ends, **TINY, hidden=(7,)), out=tmp_path / "run")
        assert run.evaluate(episodes=2).lengths == [3, 3]
