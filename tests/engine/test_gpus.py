"""Graphics cards are found without llama.cpp, and one that it leaves unused is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from archroute_edge.cli import doctor
from archroute_edge.engine import unused_gpus
from archroute_edge.engine._gpus import AMD, INTEL, NVIDIA, GPUVendor, gpus


@pytest.fixture(autouse=True)
def on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")


def add_card(root: Path, place: str, vendor: str, kind: str = "0x030000") -> None:
    device = root / "sys" / "bus" / "pci" / "devices" / place
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")


@pytest.mark.parametrize(
    ("place", "vendor", "kind", "found"),
    [
        ("0000:01:00.0", "0x10de", "0x030200", [NVIDIA]),
        ("0000:03:00.0", "0x1002", "0x030000", [AMD]),
        ("0000:03:00.0", "0x8086", "0x030000", [INTEL]),
        # Inside the CPU.
        ("0000:00:02.0", "0x8086", "0x030000", []),
        # A sound device, and an unknown maker.
        ("0000:01:00.1", "0x10de", "0x040300", []),
        ("0000:01:00.0", "0x1234", "0x030000", []),
    ],
)
def test_cards_on_the_bus(tmp_path: Path, place: str, vendor: str, kind: str, found: list[GPUVendor]) -> None:
    add_card(tmp_path, place, vendor, kind)
    assert gpus(tmp_path) == found


@pytest.mark.parametrize(("file", "found"), [("dev/nvidia0", [NVIDIA]), ("dev/kfd", [AMD])])
def test_cards_of_a_container(tmp_path: Path, file: str, found: list[GPUVendor]) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / file).touch()
    assert gpus(tmp_path) == found


def test_a_card_that_a_device_stands_for_is_used(tmp_path: Path) -> None:
    add_card(tmp_path, "0000:01:00.0", "0x10de")
    assert unused_gpus(["CPU"], tmp_path) == [NVIDIA]
    assert unused_gpus(["CUDA0", "CPU"], tmp_path) == []


def test_doctor_gives_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "unused_gpus", lambda devices: [NVIDIA])
    (advice,) = doctor._advice(["CPU"], gpu_offload=False)
    assert "without CUDA" in advice
    assert "CMAKE_ARGS=-DGGML_CUDA=on pip install" in advice
    (advice,) = doctor._advice(["CPU"], gpu_offload=True)
    assert "driver" in advice
