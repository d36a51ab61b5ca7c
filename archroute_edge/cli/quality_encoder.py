"""The encoder of a predictor, for commands that read prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from archroute_edge.errors import SettingsError

if TYPE_CHECKING:
    from archroute_edge.quality import Predictor


def encoder_of(predictor: Predictor, named: str | None) -> Path | None:
    """The file of the model that ``predictor`` reads, mostly an encoder; None if it reads none.

    Args:
        predictor: knows the model's identity.
        named: the model that the user names; None: it is around the predictor, or looked for on this machine.

    Raises:
        SettingsError: one is named, and the predictor reads none.
        QualityError: the one that is named is another, or there is none here.
        ModelError: there is none of that name, or it is no model.
    """
    from archroute_edge.models import find_model
    from archroute_edge.quality import check_encoder, find_encoder, model_identity

    if predictor.encoder is None:
        if named is not None:
            raise SettingsError("the predictor reads no model; leave out --encoder")
        return None
    if named is None:
        return predictor.model_file or find_encoder(predictor.encoder)
    path = find_model(named).path
    check_encoder(predictor.encoder, model_identity(path), named)
    return path
