"""The CPU limit of a container, as both versions of Linux's control groups say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from archroute_edge.engine._cpu import cpu_limit


def limit(root: Path, membership: str, files: dict[str, str]) -> int | None:
    for name, text in files.items():
        path = root / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (root / "cgroup").write_text(membership)
    return cpu_limit(root / "fs", root / "cgroup")


def v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": str(quota), f"{folder}/cpu.cfs_period_us": str(period)}


V1 = "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n1:name=systemd:/docker/a\n"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        pytest.param("0::/\n", {"cpu.max": "200000 100000"}, 2, id="v2"),
        pytest.param("0::/\n", {"cpu.max": "150000 100000"}, 1, id="v2-one-and-a-half"),
        pytest.param("0::/\n", {"cpu.max": "50000 100000"}, 1, id="v2-half"),
        pytest.param("0::/\n", {"cpu.max": "max 100000"}, None, id="v2-none"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3, id="v2-above"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "100000 100000", "a/cpu.max": "300000 100000"}, 1, id="v2-nested"),
        pytest.param("0::/host/a\n", {"cpu.max": "200000 100000"}, 2, id="v2-of-the-host"),
        pytest.param("0::/../../a\n", {"cpu.max": "200000 100000"}, 2, id="v2-outside"),
        pytest.param(V1, v1("cpu", 200_000), 2, id="v1-of-the-host"),
        pytest.param(V1, v1("cpu,cpuacct/docker/a", 400_000), 4, id="v1-nested"),
        pytest.param(V1, {**v1("cpu,cpuacct/docker/a", -1), **v1("cpu,cpuacct/docker", 100_000)}, 1, id="v1-above"),
        pytest.param(V1, v1("cpu", -1), None, id="v1-none"),
        pytest.param(V1, {"cpu/cpu.cfs_quota_us": "200000"}, None, id="v1-half-there"),
        pytest.param("0::/a\n" + V1, {"unified/a/cpu.max": "max 100000", **v1("cpu", 200_000)}, 2, id="hybrid"),
        pytest.param("nonsense\n::\n", {"cpu.max": "200000 0"}, None, id="nonsense"),
    ],
)
def test_the_tightest_limit_holds(tmp_path: Path, membership: str, files: dict[str, str], expected: int | None) -> None:
    """Threads beyond the limit wait for each other, and a prompt takes 1.6 times as long."""
    assert limit(tmp_path, membership, files) == expected


def test_no_groups_at_all(tmp_path: Path) -> None:
    assert cpu_limit(tmp_path / "nothing", tmp_path / "nothing") is None


def test_the_engine_uses_no_more_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    from archroute_edge.engine import _backend as backend

    monkeypatch.setattr(backend, "cpu_limit", lambda: 1)
    assert backend.physical_cores.__wrapped__() == 1
