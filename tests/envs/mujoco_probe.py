"""An environment of MuJoCo's that MuJoCo warns of as it is made."""

import mujoco
from env_probes import Walk

MODEL = """<mujoco><worldbody><body><freejoint/><geom size="1"/></body></worldbody></mujoco>"""


class Unstable(Walk):
    """Its simulation is beyond all bounds from the start."""

    def __init__(self):
        super().__init__()
        model = mujoco.MjModel.from_xml_string(MODEL)
        data = mujoco.MjData(model)
        data.qpos[0] = 1e20
        mujoco.mj_step(model, data)
