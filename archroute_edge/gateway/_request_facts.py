"""What a target must be able to take, read from the body of a request of any of the three APIs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from archroute_edge.config import RoutingConfig
from archroute_edge.conversation import estimate_tokens
from archroute_edge.targets import RequestFacts

_IMAGES: Final = ("image", "image_url", "input_image")
# Their sizes say nothing about tokens.
_BINARY: Final = (*_IMAGES, "input_audio", "audio", "file", "input_file", "document", "video_url", "input_video")
# About what providers count for a picture of usual size, whose bytes say nothing.
_IMAGE_TOKENS: Final = 1000
_PROMPT: Final = ("messages", "input", "system", "instructions", "prompt")
_TOOLS: Final = ("tools", "functions")
_MOST: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")


def needs_facts(config: RoutingConfig) -> bool:
    """Whether anything in a configuration depends on what a request holds."""
    if any(policy == "cheapest" for policy in config.selection.values()) or config.forward.max_switch_spend_pct is not None:
        return True
    if any(rule.tokens_per_minute is not None for rule in config.forward.keys):
        return True
    return any(
        stated.context_window is not None or stated.images is False or stated.tools is False
        for stated in config.forward.models.values()
    )


def request_facts(body: Mapping[str, Any]) -> RequestFacts:
    """The facts of a request.

    Args:
        body: its JSON object.
    """
    found = _Found()
    texts = [*found.texts(body.get(name) for name in _PROMPT)]
    has_tools = any(isinstance(body.get(name), list) and body[name] for name in _TOOLS)
    if has_tools:
        texts += _names_and_texts([body.get(name) for name in _TOOLS])
    answer = next((body[name] for name in _MOST if type(body.get(name)) is int and body[name] >= 0), None)
    prompt_tokens = estimate_tokens(texts) + _IMAGE_TOKENS * found.n_images
    return RequestFacts(prompt_tokens, answer, found.n_images > 0, has_tools)


class _Found:
    def __init__(self) -> None:
        self.n_images = 0

    def texts(self, values: Iterator[Any]) -> Iterator[str]:
        """All texts but those of pictures and other files."""
        left = list(values)
        while left:
            value = left.pop()
            if isinstance(value, str):
                yield value
            elif isinstance(value, list):
                left += value
            elif isinstance(value, dict):
                kind = value.get("type")
                self.n_images += kind in _IMAGES
                if kind not in _BINARY:
                    left += value.values()


def _names_and_texts(values: list[Any]) -> Iterator[str]:
    """All texts, keys of objects among them: a schema is prompt, too."""
    while values:
        value = values.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            values += value
        elif isinstance(value, dict):
            yield from value
            values += value.values()
