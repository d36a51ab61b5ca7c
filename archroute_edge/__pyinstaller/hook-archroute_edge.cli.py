"""The commands, which ``archroute_edge.cli`` imports by name when they are used."""

from PyInstaller import isolated


@isolated.decorate  # type: ignore[untyped-decorator]
def _commands() -> list[str]:
    from archroute_edge.cli import main

    return [place.module for place in main.places.values()]


hiddenimports = _commands()
