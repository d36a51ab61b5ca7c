"""What the settings of a router may be."""

from __future__ import annotations

import math
from numbers import Real
from pathlib import Path
from typing import Any, Final, get_args

from archroute_edge.deciders import DecoderName, GenerativeSettings
from archroute_edge.engine import ENGINES, KV_TYPES, WantedEngine, is_quantized_kv
from archroute_edge.errors import SettingsError
from archroute_edge.models import AUTO
from archroute_edge.prompts import prompt_format as find_prompt_format

# Least and most of what an option may be. llama.cpp keeps 32 bits of n_ctx, and OpenMP ends the process where it cannot
# start as many threads as it is told to.
N_CTX_LIMITS: Final = (1, 1 << 24)
THREADS_LIMITS: Final = (1, 512)
GPU_LAYERS_LIMITS: Final = (-1, 1 << 16)
BUDGET_LIMITS: Final = (64, 1 << 24)

LONGEST_DEADLINE_S: Final = 86_400


def stated_settings(
    decoder: DecoderName | None,
    n_ctx: int | None,
    threads: int | None,
    gpu_layers: int | None,
    budget: int | None,
    flash_attention: bool | None,
    folder: Path | None,
    kv_type: str | None,
    engine: WantedEngine,
) -> GenerativeSettings:
    """The settings of a language model, and which of them were stated: None states nothing, and neither does ``auto``."""
    values = {
        "decoder": decoder,
        "n_ctx": n_ctx,
        "n_threads": threads,
        "n_gpu_layers": gpu_layers,
        "budget": budget,
        "flash_attention": flash_attention,
        "prefix_folder": folder,
        "kv_type": kv_type,
    }
    stated: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    given = frozenset(stated) if engine == AUTO else frozenset((*stated, "engine"))
    return GenerativeSettings(**stated, engine=engine, given=given)


def check_settings(settings: GenerativeSettings, prompt_format: str, switch_over: Any) -> None:
    """Refuse settings that make no sense, whatever the model.

    Raises:
        SettingsError: one makes none.
        PromptFormatError: there is no such prompt format.
    """
    if prompt_format != AUTO:
        find_prompt_format(prompt_format)
    if settings.decoder not in get_args(DecoderName):
        raise SettingsError(f"no decoder {settings.decoder!r}; there are {', '.join(get_args(DecoderName))}")
    value: Any
    for name, value, (least, most) in (
        ("n_ctx", settings.n_ctx, N_CTX_LIMITS),
        ("threads", settings.n_threads, THREADS_LIMITS),
        ("gpu_layers", settings.n_gpu_layers, GPU_LAYERS_LIMITS),
        ("budget", settings.budget, BUDGET_LIMITS),
    ):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most):
            raise SettingsError(f"{name} is {value!r}; it must be a whole number from {least} to {most}")
    if not isinstance(settings.kv_type, str) or settings.kv_type not in KV_TYPES:
        raise SettingsError(f"no KV cache type {settings.kv_type!r}; there are {', '.join(KV_TYPES)}")
    if settings.engine not in ENGINES:
        raise SettingsError(f"no engine {settings.engine!r}; there are {', '.join(ENGINES)}")
    if not isinstance(settings.flash_attention, bool | None):
        raise SettingsError(f"flash_attention is {settings.flash_attention!r}; it must be True, False or None")
    if settings.flash_attention is False and is_quantized_kv(settings.kv_type):
        raise SettingsError(f"a KV cache of {settings.kv_type} needs flash attention; turn it on, or use f16, bf16 or f32")
    number = isinstance(switch_over, Real) and not isinstance(switch_over, bool)
    if switch_over is not None and not (number and 0 <= switch_over <= 1):
        raise SettingsError(f"switch_over is {switch_over!r}; it must be a number from 0 to 1")


def check_deadline(deadline: Any) -> None:
    """Refuse a deadline that is no time.

    Raises:
        SettingsError: it is not a number of seconds above 0, or is beyond a day.
    """
    if deadline is None:
        return
    number = isinstance(deadline, int | float) and not isinstance(deadline, bool) and math.isfinite(deadline)
    if not number or not 0 < deadline <= LONGEST_DEADLINE_S:
        raise SettingsError(f"deadline is {deadline!r}; it must be a number of seconds above 0, at most {LONGEST_DEADLINE_S}")


def check_warm_up(messages: object, whole: bool, scores: bool) -> None:
    """Refuse a warm-up of a whole conversation that is none, and scores of one that comes to no decision.

    Raises:
        SettingsError: there are no messages, or it is not of a whole one.
    """
    if whole and messages is None:
        raise SettingsError("whole is about messages, and there are none")
    if scores and not whole:
        raise SettingsError("scores is about a decision; give whole, too")
