"""The commands, which ``archroute_edge.cli`` and its groups import by name when they are used."""

from PyInstaller import isolated


@isolated.decorate  # type: ignore[untyped-decorator]
def _commands() -> list[str]:
    from archroute_edge.cli import main
    from archroute_edge.cli.help import LazyGroup

    # archroute doctor starts the command itself by the name of its package.
    found: list[str] = ["archroute_edge.cli.__main__"]
    groups: list[LazyGroup] = [main]
    for group in groups:
        for place in group.places.values():
            found.append(place.module)
            command = place.load()
            groups += [command] if isinstance(command, LazyGroup) else []
    return found


hiddenimports = _commands()
