"""Ways to decide behind one interface: a language model, an encoder, a cascade of both. Also calibration.

:func:`open_decider` opens one by name.

Used by: ``targets``, ``routing``, ``evaluation``, ``bench``, ``server`` and ``cli``. Other rooms import only the names below;
modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.deciders._calibration import (
        LOW_CONFIDENCE,
        SMALLEST_PROBABILITY,
        TEMPERATURE_LIMITS,
        CalibratedAnswer,
        Calibration,
        tempered,
    )
    from archroute_edge.deciders._encoder import EncoderDecider
    from archroute_edge.deciders._encoder_scale import OTHER_COSINE_KEY, SCALE_KEY, SWITCH_OVER_KEY, TEXT_FORMAT_KEY
    from archroute_edge.deciders._encoder_text import TEXT_FORMAT, conversation_text, route_text
    from archroute_edge.deciders._generative import GenerativeDecider
    from archroute_edge.deciders._hubness import HUBNESS_NEIGHBOURS_KEY, HUBNESS_WEIGHT_KEY, REFERENCES_KEY, Hubness
    from archroute_edge.deciders._identity import CASCADE, NO_PROMPT, choose_prompt_format, find_models, identify
    from archroute_edge.deciders._interface import Decider
    from archroute_edge.deciders._lease import DeciderLease
    from archroute_edge.deciders._open_decider import DeciderSettings, open_decider
    from archroute_edge.deciders._settings import DecoderName, GenerativeSettings
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_calibration": "CalibratedAnswer Calibration LOW_CONFIDENCE SMALLEST_PROBABILITY TEMPERATURE_LIMITS tempered",
            "_encoder": "EncoderDecider",
            "_encoder_scale": "OTHER_COSINE_KEY SCALE_KEY SWITCH_OVER_KEY TEXT_FORMAT_KEY",
            "_encoder_text": "TEXT_FORMAT conversation_text route_text",
            "_generative": "GenerativeDecider",
            "_hubness": "HUBNESS_NEIGHBOURS_KEY HUBNESS_WEIGHT_KEY Hubness REFERENCES_KEY",
            "_identity": "CASCADE NO_PROMPT choose_prompt_format find_models identify",
            "_interface": "Decider",
            "_lease": "DeciderLease",
            "_open_decider": "DeciderSettings open_decider",
            "_settings": "DecoderName GenerativeSettings",
        },
    )
