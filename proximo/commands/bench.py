"""`proximo bench ENV`: how fast each part of the training loop is."""

import dataclasses
import json
from dataclasses import dataclass
from functools import partial

from proximo.arguments import RecipeArguments, Shown, config_from, parse_recipe


@dataclass(frozen=True)
class Bench(Shown, RecipeArguments):
    """Measure the speed of each part of training, in environment steps per second."""

    repeats: int = 10
    """Number of measurements. The median is reported."""


read = partial(parse_recipe, Bench, "bench")


def run(arguments: Bench) -> int:
    """Benchmark; returns the exit status."""
    from proximo.control.bench import bench as measure
    from proximo.runs.process import prepare_process

    prepare_process()
    config = config_from(arguments)
    rates = measure(config, repeats=arguments.repeats, allow_import=True)
    if arguments.json:
        print(json.dumps({**dataclasses.asdict(rates), "floor_share": rates.floor_share}))
        return 0
    print(f"{config.name}, {config.num_envs} x {config.horizon}; environment steps per second:")
    for name, rate in dataclasses.asdict(rates).items():
        print(f"  {name:10s} {rate:12,.0f}")
    print(f"  the whole loop runs at {rates.floor_share:.0%} of the speed of the environments alone")
    return 0
