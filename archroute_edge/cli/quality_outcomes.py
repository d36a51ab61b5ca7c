"""Outcomes as the commands of ``archroute quality`` are given them: files, tables of grades, and tiers of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archroute_edge.cli.help import option
from archroute_edge.cli.labelled import file_option
from archroute_edge.config import parse_json
from archroute_edge.conversation import replace_surrogates
from archroute_edge.errors import ConversationError, SettingsError

if TYPE_CHECKING:
    from archroute_edge.quality import Outcomes

grades_option = option(
    "--grades",
    multiple=True,
    metavar="FILE",
    help="Grades in CSV, id,model,score, that replace those of the prompts' own files; repeat it for more.",
)
tiers_option = file_option("--tiers", "JSON object of tiers, each a list of models; a tier counts as their mean.")


def read_given(outcomes: Sequence[str], grades: Sequence[str], tiers: Path | None, *, may_lack: bool = False) -> Outcomes:
    """The outcomes of files, with the grades of tables, by tier if there are tiers.

    Args:
        outcomes: files or folders.
        grades: tables.
        tiers: file with the tiers.
        may_lack: whether tiers without outcomes are left out.

    Raises:
        QualityError: a file cannot be read or is wrong at some line, or no model of a tier has outcomes.
        SettingsError: the tiers cannot be read, or are none.
    """
    from archroute_edge import quality

    found = quality.read_outcomes(outcomes, grades)
    return found if tiers is None else quality.merge_tiers(found, read_tiers(tiers), may_lack=may_lack)


def read_tiers(path: Path) -> dict[str, list[str]]:
    """A JSON object of tiers, each a list of models' names.

    Raises:
        SettingsError: the file cannot be read, or holds something else.
    """
    try:
        tiers = parse_json(path.read_bytes(), str(path))
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except ConversationError as exc:
        raise SettingsError(str(exc)) from exc
    if not isinstance(tiers, dict) or not tiers or not all(map(_is_names, tiers.values())) or not all(map(str.strip, tiers)):
        raise SettingsError(f'{path}: expected tiers with their models, such as {{"small": ["model-a", "model-b"]}}')
    readable = {replace_surrogates(tier): [*map(replace_surrogates, models)] for tier, models in tiers.items()}
    if len(readable) < len(tiers):
        raise SettingsError(f"{path}: the names of two tiers differ only in halves of surrogate pairs, which are no text")
    return readable


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) and each.strip() for each in value)
