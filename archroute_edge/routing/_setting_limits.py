"""What the settings of a router may be."""

from __future__ import annotations

from numbers import Real
from pathlib import Path
from typing import Any, Final, get_args

from archroute_edge.deciders import DecoderName, GenerativeSettings
from archroute_edge.engine import ENGINES, KV_TYPES, WantedEngine, is_quantized_kv
from archroute_edge.errors import SettingsError
from archroute_edge.models import AUTO
from archroute_edge.prompts import prompt_format as find_prompt_format
from archroute_edge.routing._argument_types import whole_number

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
    """The settings of a language model, and which of them were stated: None states nothing, and neither does ``auto``.

    Raises:
        SettingsError: what must be a whole number is none, or beyond its limits.
    """

    def whole(name: str, value: int | None, limits: tuple[int, int]) -> int | None:
        return None if value is None else whole_number(name, value, *limits)

    values = {
        "decoder": decoder,
        "n_ctx": whole("n_ctx", n_ctx, N_CTX_LIMITS),
        "n_threads": whole("threads", threads, THREADS_LIMITS),
        "n_gpu_layers": whole("gpu_layers", gpu_layers, GPU_LAYERS_LIMITS),
        "budget": whole("budget", budget, BUDGET_LIMITS),
        "flash_attention": flash_attention,
        "prefix_folder": folder,
        "kv_type": kv_type,
    }
    stated: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    given = frozenset(stated) if engine == AUTO else frozenset((*stated, "engine"))
    return GenerativeSettings(**stated, engine=engine, given=given)


def check_settings(settings: GenerativeSettings, prompt_format: str, switch_over: Any) -> float | None:
    """Refuse settings that make no sense, whatever the model; the switch-over comes back as a float, if there is one.

    Raises:
        SettingsError: one makes none.
        PromptFormatError: there is no such prompt format.
    """
    if prompt_format != AUTO:
        find_prompt_format(prompt_format)
    if settings.decoder not in get_args(DecoderName):
        raise SettingsError(f"no decoder {settings.decoder!r}; there are {', '.join(get_args(DecoderName))}")
    if not isinstance(settings.kv_type, str) or settings.kv_type not in KV_TYPES:
        raise SettingsError(f"no KV cache type {settings.kv_type!r}; there are {', '.join(KV_TYPES)}")
    if settings.engine not in ENGINES:
        raise SettingsError(f"no engine {settings.engine!r}; there are {', '.join(ENGINES)}")
    if not isinstance(settings.flash_attention, bool | None):
        raise SettingsError(f"flash_attention is {settings.flash_attention!r}; it must be True, False or None")
    if settings.flash_attention is False and is_quantized_kv(settings.kv_type):
        raise SettingsError(f"a KV cache of {settings.kv_type} needs flash attention; turn it on, or use f16, bf16 or f32")
    if switch_over is None:
        return None
    if not _is_number(switch_over) or not 0 <= switch_over <= 1:
        raise SettingsError(f"switch_over is {switch_over!r}; it must be a number from 0 to 1")
    return float(switch_over)


def read_deadline(deadline: Any) -> float | None:
    """The seconds that a deadline leaves, if there is one.

    Raises:
        SettingsError: it is not a number of seconds above 0, or is beyond a day.
    """
    if deadline is None:
        return None
    if not _is_number(deadline) or not 0 < deadline <= LONGEST_DEADLINE_S:
        raise SettingsError(f"deadline is {deadline!r}; it must be a number of seconds above 0, at most {LONGEST_DEADLINE_S}")
    return float(deadline)


def _is_number(value: object) -> bool:
    # NumPy's numbers are Real, too.
    return isinstance(value, Real) and not isinstance(value, bool)


def check_warm_up(messages: object, whole: bool, scores: bool) -> None:
    """Refuse a warm-up of a whole conversation that is none, and scores of one that comes to no decision.

    Raises:
        SettingsError: there are no messages, or it is not of a whole one.
    """
    if whole and messages is None:
        raise SettingsError("whole is about messages, and there are none")
    if scores and not whole:
        raise SettingsError("scores is about a decision; give whole, too")
