"""Labelling files of conversations: a file of labels for each, whole or not at all.

Any number of processes and machines work at it. They share a folder and nothing else: a claim beside an output says who is at
work on it. On a Ray cluster, Ray shares out the rows.

Used by: ``cli``. Other rooms import only the names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.label._claims import TAKEOVER_S, Claim, Claims
    from archroute_edge.label._files import InputFile, find_inputs
    from archroute_edge.label._folder import LabelFolder, config_digest
    from archroute_edge.label._labeller import Label, Labeller
    from archroute_edge.label._ray import RouterRecipe, label_on_ray, need_ray
    from archroute_edge.label._rows import Fields, Row, read_rows
    from archroute_edge.label._run import LabelRun, Summary
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_claims": "TAKEOVER_S Claim Claims",
            "_files": "InputFile find_inputs",
            "_folder": "LabelFolder config_digest",
            "_labeller": "Label Labeller",
            "_ray": "RouterRecipe label_on_ray need_ray",
            "_rows": "Fields Row read_rows",
            "_run": "LabelRun Summary",
        },
    )
