"""How many cores this process may use, as the kernel grants them."""

import math
import os
from pathlib import Path

ROOT = Path("/")


def granted_cores(root: Path = ROOT) -> int:
    """Cores that this process may keep busy, at least 1.

    Its affinity counts (`taskset`, SLURM), and the quota of its control groups: a container that is given two
    CPUs of a machine with 64 (Kubernetes, `docker --cpus 2`) may run on all of them, but is stopped for the
    rest of each period once it has used as much as two of them would.

    root  where /proc and /sys lie
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(affinity, _quota(root))))


def _quota(root: Path) -> float:
    """CPUs' worth of time that the control groups grant, the least of a group and those above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return math.inf
    groups = [line.split(":", 2)[1:] for line in lines if line.count(":") >= 2]
    least = math.inf
    for controllers, group in groups:
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = [root / "sys/fs/cgroup" / controllers, root / "sys/fs/cgroup/cpu"] if controllers else []
        for mount in mounts or [root / "sys/fs/cgroup"]:
            place = Path(group.lstrip("/"))
            for above in (place, *place.parents):
                least = min(least, _granted(mount / above))
    return least


def _granted(group: Path) -> float:
    """What one group grants: in version 2 `cpu.max` holds quota and period, in version 1 a file for each."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{x}_us").read_text().strip() for x in ("quota", "period"))
        return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
