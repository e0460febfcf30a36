"""Cores as the kernel grants them: affinity, and the quota of control groups."""

import pytest

from proximo.envs.vector.cores import granted_cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 cores with these files under /sys/fs/cgroup, and this in /proc/self/cgroup."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)), raising=False)

    def made(groups, **files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
        for name, content in files.items():
            file = tmp_path / "sys/fs/cgroup" / name.replace("__", "/").replace("_", ".", 1)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return tmp_path

    return made


def test_a_quota_of_two_cpus_is_two_cores(machine):
    assert granted_cores(machine("0::/\n", cpu_max="200000 100000\n")) == 2


def test_a_part_of_a_cpu_is_one_core(machine):
    assert granted_cores(machine("0::/\n", cpu_max="50000 100000\n")) == 1


def test_the_least_of_a_group_and_those_above_it_counts(machine):
    root = machine("0::/pods/mine\n", pods__cpu_max="300000 100000\n", pods__mine__cpu_max="max 100000\n")
    assert granted_cores(root) == 3


def test_the_older_control_groups_have_two_files(machine, tmp_path):
    root = machine("4:memory:/\n3:cpu,cpuacct:/mine\n")
    group = tmp_path / "sys/fs/cgroup/cpu,cpuacct/mine"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("150000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert granted_cores(root) == 2  # one and a half


@pytest.mark.parametrize("content", ["max 100000\n", "", "two 100000\n", "200000 0\n"])
def test_without_a_quota_affinity_counts(machine, content):
    assert granted_cores(machine("0::/\n", cpu_max=content)) == 64


def test_another_system_has_neither(tmp_path, monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert granted_cores(tmp_path) == 8
