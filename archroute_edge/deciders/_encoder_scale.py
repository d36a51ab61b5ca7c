"""What turns the cosines of an encoder into probabilities: three numbers that come with the model, in its GGUF."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from archroute_edge.deciders._encoder_text import TEXT_FORMAT
from archroute_edge.engine import GGUFHeader
from archroute_edge.errors import ModelFileError

logger = logging.getLogger(__name__)

TEXT_FORMAT_KEY: Final = "archroute.encoder.text_format"
SCALE_KEY: Final = "archroute.encoder.scale"
OTHER_COSINE_KEY: Final = "archroute.encoder.other_cosine"
SWITCH_OVER_KEY: Final = "archroute.encoder.switch_over"


@dataclass(frozen=True)
class EncoderScale:
    """The probability of a route is proportional to exp(scale * its cosine), that of ``other`` to exp(scale * other_cosine).

    Of a route's cosine its hubness is taken off first, where the model knows of any.

    Args:
        scale: how much a difference of cosines says; positive.
        other_cosine: the cosine, -1 to 1, at which ``other`` is as probable as a route.
        switch_over: the confidence, 0 to 1, from which on a cascade leaves the decision to the encoder.
    """

    scale: float = 20.0
    other_cosine: float = 0.2
    switch_over: float = 0.8


def read_encoder_scale(header: GGUFHeader) -> EncoderScale:
    """The scale in a GGUF; the defaults, with a warning in the log, for an encoder that was not made for routing.

    Raises:
        ModelFileError: a number is out of its range, or the encoder was trained on texts of another version.
    """
    version = header.metadata.get(TEXT_FORMAT_KEY, TEXT_FORMAT)
    if version != TEXT_FORMAT or isinstance(version, bool):
        raise ModelFileError(
            f"{header.path}: was trained on texts of version {version!r}, and this archroute-edge makes version {TEXT_FORMAT}; "
            "use the archroute-edge that it was made for"
        )
    usual = EncoderScale()
    if SCALE_KEY not in header.metadata or OTHER_COSINE_KEY not in header.metadata:
        logger.warning(
            "%s: is not calibrated for routing, so how sure it is of a route is a guess and 'other' may come too often or "
            "too seldom",
            header.path,
        )
    return EncoderScale(
        _number(header, SCALE_KEY, usual.scale, 1e-3, 1e4),
        _number(header, OTHER_COSINE_KEY, usual.other_cosine, -1.0, 1.0),
        _number(header, SWITCH_OVER_KEY, usual.switch_over, 0.0, 1.0),
    )


def _number(header: GGUFHeader, key: str, default: float, least: float, most: float) -> float:
    value = header.metadata.get(key, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
        raise ModelFileError(f"{header.path}: {key} is {value!r}; it must be a number from {least:g} to {most:g}")
    return float(value)
