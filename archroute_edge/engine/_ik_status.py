"""What there is to say about ik_llama.cpp on this machine, for people and reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from archroute_edge.engine._cpu import cpu
from archroute_edge.engine._engine_choice import soundness
from archroute_edge.engine._ik_binding import binding, build_command, ik_version, loading_problem, refusal

# Names in llama_print_system_info, and what Linux calls the CPU's own.
_FASTER: Final = {"AVX_VNNI": "avx_vnni", "AVX512": "avx512f", "AVX512_VNNI": "avx512_vnni", "AVX512_BF16": "avx512_bf16"}


@dataclass(frozen=True)
class IkStatus:
    """ik_llama.cpp on this machine.

    Args:
        version: of ik-llama-cpp-python; None if it is not installed.
        refused: why it is not used; None if it can be.
        features: what it was compiled for, in its own words.
        unused: instructions of this CPU that it was not compiled for and that make it faster.
    """

    version: str | None
    refused: str | None
    features: str = ""
    unused: tuple[str, ...] = ()

    @property
    def advice(self) -> str | None:
        """What would make it faster; None if nothing would."""
        if not self.unused:
            return None
        return (
            f"ik_llama.cpp was compiled without {', '.join(self.unused)}, which this CPU has; to build it so: {build_command()}"
        )


def ik_status() -> IkStatus:
    """Look, and try it in a child process if that was not done before."""
    version = ik_version()
    if version is None:
        return IkStatus(None, None)
    refused = refusal() or soundness() or loading_problem()
    if refused is not None:
        return IkStatus(version, refused)
    features = binding().llama_print_system_info().decode("utf-8", "replace").strip()
    words = dict(pair.partition(" = ")[::2] for pair in map(str.strip, features.split("|")) if pair)
    present = {flag for line in cpu() for flag in line.split()}
    unused = tuple(name for name, flag in _FASTER.items() if flag in present and words.get(name) == "0")
    return IkStatus(version, None, features, unused)
