"""The CPUs that a container or a service may use, as Linux's control groups say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_MOUNTS: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")


def cpu_limit(mounts: Path = _MOUNTS, membership: Path = _MEMBERSHIP) -> int | None:
    """Whole CPUs that the limits of this process's groups allow, at least 1; None without a limit.

    A limit holds for all groups below the one that has it. Versions 1 and 2 of the interface are read.

    Args:
        mounts: where the trees of groups are mounted.
        membership: the file that says which groups this process is in.
    """
    limits = [limit for folder in _groups(mounts, membership) if (limit := _limit_of(folder)) is not None]
    return max(1, int(min(limits))) if limits else None


def _groups(mounts: Path, membership: Path) -> Iterator[Path]:
    """The folders of this process's groups and of all above them.

    In a container a group's path may be the host's, of which the container sees its own group as the root.
    """
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in ("0::/", "1:cpu:/", *lines):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            trees = [mounts, mounts / "unified"]
        elif "cpu" in controllers.split(","):
            trees = [mounts / "cpu", mounts / "cpu,cpuacct", mounts / "cpuacct,cpu"]
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        if ".." not in inner.parts:
            for tree in trees:
                yield from (tree / group for group in (inner, *inner.parents))


def _limit_of(folder: Path) -> float | None:
    """CPUs that a group may use; None where it has no limit, which is written as ``max`` or -1."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return _ratio(quota, period)
    except (OSError, ValueError):
        pass
    try:
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        return _ratio(quota, period)
    except (OSError, ValueError):
        return None


def _ratio(quota: str, period: str) -> float | None:
    return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
