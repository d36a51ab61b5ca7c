"""Options of the commands that read the record."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from archroute_edge.cli.help import option

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGO: Final = re.compile(r"(\d{1,6})([smhdw])")


class When(click.ParamType[float]):
    """A time: so long ago (``90m``, ``24h``, ``7d``), or a date with or without a time of day, local unless it has a zone."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds since 1970."""
        if isinstance(value, float):
            return value
        try:
            seconds = _seconds(value)
            # Beyond the years 1 to 9999 there is none to show.
            datetime.datetime.fromtimestamp(seconds)
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r} is no time; write 24h, 7d, 2026-12-31 or 2026-12-31T18:00", param, ctx)
        return seconds


def _seconds(text: str) -> float:
    ago = _AGO.fullmatch(text)
    if ago:
        return time.time() - int(ago[1]) * _UNITS[ago[2]]
    # Python learnt what Z means in 3.11.
    return datetime.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).timestamp()


record_file_option = option(
    "--record-file", metavar="FILE", type=click.Path(path_type=Path), help="The record.  [default: in the user's data folder]"
)
since_option = option("--since", metavar="WHEN", type=When(), help="Requests since WHEN: 24h, 7d, or a date.")
until_option = option("--until", metavar="WHEN", type=When(), help="Requests before WHEN.")

_FILTERS: Final = (
    since_option,
    until_option,
    option("--route", metavar="NAME", help="Requests of one route."),
    option("--model", metavar="NAME", help="Requests that one model answered, as the configuration names it."),
    option("--status", metavar="N", type=int, help="Requests that were answered with one HTTP status."),
    option("--session", metavar="ID", help="Requests of one conversation; the beginning of its digest is enough."),
    option("--client", metavar="NAME", help="Requests with one client's key."),
    option("--failed", is_flag=True, help="Requests that failed, or needed more than one try."),
)
FILTER_NAMES: Final = ("since", "until", "route", "model", "status", "session", "client", "failed")


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which requests are wanted."""
    for each in reversed(_FILTERS):
        command = each(command)
    return command


def wanted_by(options: Mapping[str, Any]) -> Any:
    """What :func:`filter_options` asks for, as ``record.Wanted``."""
    from archroute_edge.record import Wanted

    return Wanted(**{name: options[name] for name in FILTER_NAMES})


def record_at(file: Path | None) -> Path:
    """The record that is meant."""
    from archroute_edge.record import record_file

    return file or record_file()
