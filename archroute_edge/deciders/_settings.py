"""How a language model works when it decides, for those who open one and for those who only say how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from archroute_edge.conversation import DEFAULT_BUDGET
from archroute_edge.engine import DEFAULT_KV_TYPE

DecoderName = Literal["fast", "grammar"]


@dataclass(frozen=True)
class GenerativeSettings:
    """How a generative decider works. None means: fit to the model and the machine.

    Args:
        decoder: ``fast``, or ``grammar`` for llama.cpp's own sampler.
        n_ctx: cells of the KV cache.
        n_threads: threads for evaluation; the physical cores by default.
        n_gpu_layers: layers on the GPU; all by default, where the build has one.
        budget: tokens of conversation in a prompt.
        flash_attention: by default on for short static prefixes and off for long ones, as measured.
        prefix_folder: where static prefixes are saved; None saves none.
        kv_type: number type of the KV cache; quantized ones turn flash attention on, without which there are none.
    """

    decoder: DecoderName = "fast"
    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int | None = None
    budget: int = DEFAULT_BUDGET
    flash_attention: bool | None = None
    prefix_folder: Path | None = None
    kv_type: str = DEFAULT_KV_TYPE
