"""Ways to decide behind one interface: a language model, an encoder, a cascade of both. Also calibration.

:func:`open_decider` opens one by name.

Used by: ``quality``, ``targets``, ``routing``, ``evaluation``, ``bench``, ``server`` and ``cli``. Other rooms import only the
names below; modules with an underscore belong to this room.
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
    from archroute_edge.deciders._decider import Decider, UnfinishedError, Work, stopped_for_others
    from archroute_edge.deciders._encoder import TRAINED_TOKENS, EncoderDecider
    from archroute_edge.deciders._encoder_scale import (
        CATCH_ALL_BOUND_KEY,
        CATCH_ALL_KEY,
        HUBNESS_NEIGHBOURS_KEY,
        HUBNESS_WEIGHT_KEY,
        OTHER_COSINE_KEY,
        OTHER_KNOWN_KEY,
        OTHER_NEARNESS_KEY,
        OTHER_ROUTES_KEY,
        REFERENCES_KEY,
        SCALE_KEY,
        SWITCH_OVER_KEY,
        TEXT_FORMAT_KEY,
        TOPIC_SHIFT_KEY,
        TOPICS_KEY,
        Hubness,
        route_nearness,
    )
    from archroute_edge.deciders._encoder_text import TEXT_FORMAT, conversation_text, route_text
    from archroute_edge.deciders._generative import GenerativeDecider
    from archroute_edge.deciders._open_decider import open_decider
    from archroute_edge.deciders._settings import (
        CASCADE,
        NO_PROMPT,
        DeciderSettings,
        DecoderName,
        GenerativeSettings,
        choose_prompt_format,
        find_models,
        identify,
        settings_without_meaning,
    )
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_calibration": "CalibratedAnswer Calibration LOW_CONFIDENCE SMALLEST_PROBABILITY TEMPERATURE_LIMITS tempered",
            "_decider": "Decider UnfinishedError Work stopped_for_others",
            "_encoder": "EncoderDecider TRAINED_TOKENS",
            "_encoder_scale": (
                "CATCH_ALL_BOUND_KEY CATCH_ALL_KEY HUBNESS_NEIGHBOURS_KEY HUBNESS_WEIGHT_KEY Hubness OTHER_COSINE_KEY "
                "OTHER_KNOWN_KEY OTHER_NEARNESS_KEY OTHER_ROUTES_KEY REFERENCES_KEY SCALE_KEY SWITCH_OVER_KEY TEXT_FORMAT_KEY "
                "TOPICS_KEY TOPIC_SHIFT_KEY route_nearness"
            ),
            "_encoder_text": "TEXT_FORMAT conversation_text route_text",
            "_generative": "GenerativeDecider",
            "_open_decider": "open_decider",
            "_settings": (
                "CASCADE DeciderSettings DecoderName GenerativeSettings NO_PROMPT choose_prompt_format find_models identify "
                "settings_without_meaning"
            ),
        },
    )
