"""A probe that can be drawn."""

import numpy as np
from probes import Probe


class Drawn(Probe):
    """Three steps of reward 1.5; the picture is as bright as 50 times the clock."""

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 5}  # noqa: RUF012
    size = (31, 41)  # odd: no codec likes that
    made = []  # noqa: RUF012

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        Drawn.made.append(self)

    def begin(self):
        self.clock = 0

    def turn(self, action):
        self.clock += 1
        return 1.5, self.clock == 3, False

    def render(self):
        picture = np.zeros((*self.size, 3), np.uint8)
        picture[...] = 50 * self.clock
        return picture
