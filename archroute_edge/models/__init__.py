"""The router models on disk: the catalogue, quantization levels, finding, pulling, checking and removing a file.

Only pulling uses the network, and only when asked to.

Used by: ``deciders``, ``targets``, ``routing``, ``quantize``, ``bench``, ``server`` and ``cli``. Other rooms import only the
names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.models._catalogue import CHECKPOINT, CatalogueEntry, read_catalogue
    from archroute_edge.models._find import (
        AUTO,
        BUNDLED,
        BUNDLED_ENCODER,
        BUNDLED_LANGUAGE_MODEL,
        PREFERRED,
        InstalledModel,
        ModelFile,
        catalogue_entry,
        check_removable,
        find_bundled,
        find_checkpoint,
        find_language_model,
        find_model,
        installed,
        locate,
        model_folders,
        models_on_this_machine,
        remove,
        to_verify,
        verify,
    )
    from archroute_edge.models._levels import LEVELS, Level, level_named
    from archroute_edge.models._pull import Licence, PulledModel, PullListener, pull_checkpoint, pull_model
    from archroute_edge.models._remote_address import RemoteAddress, RemoteApi, is_remote
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_catalogue": "CHECKPOINT CatalogueEntry read_catalogue",
            "_find": (
                "AUTO BUNDLED BUNDLED_ENCODER BUNDLED_LANGUAGE_MODEL InstalledModel ModelFile PREFERRED catalogue_entry "
                "check_removable find_bundled find_checkpoint find_language_model find_model installed locate model_folders "
                "models_on_this_machine remove to_verify verify"
            ),
            "_levels": "LEVELS Level level_named",
            "_remote_address": "RemoteAddress RemoteApi is_remote",
            "_pull": "Licence PullListener PulledModel pull_checkpoint pull_model",
        },
    )
