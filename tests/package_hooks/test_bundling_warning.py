"""What the developer of an application is told while it is bundled with a build of llama.cpp for one machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from archroute_edge.__pyinstaller.native_build import bundling_warning


@pytest.mark.parametrize(
    ("features", "named"),
    [
        (("AVX", "AVX2", "AVX512", "AVX512_VNNI", "SSE3"), "(AVX512, AVX512_VNNI)"),
        (("DOTPROD", "MATMUL_INT8", "NEON", "SVE"), "MATMUL_INT8, SVE)"),
        (("AVX", "AVX2", "BMI2", "F16C", "FMA", "SSE3", "SSSE3"), None),
        ((), None),
    ],
)
def test_a_build_for_one_machine_is_warned_of(features: tuple[str, ...], named: str | None) -> None:
    warning = bundling_warning(features)
    if named is None:
        assert warning is None
    else:
        assert warning is not None
        assert named in warning
        assert "docs/apps.md" in warning
        assert "\n" not in warning


def test_the_page_that_it_names_shows_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "apps.md").read_text("utf-8")
    assert "## CPUs of other machines\n" in page
    assert f"WARNING: {bundling_warning(('AVX512', 'AVX512_VNNI'))}\n" in page
