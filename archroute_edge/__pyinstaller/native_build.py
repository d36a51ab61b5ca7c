"""Whether an application bundled with the installed llama.cpp runs on other people's machines."""

from __future__ import annotations

from archroute_edge.engine import features_beyond_portable


def bundling_warning(features: tuple[str, ...]) -> str | None:
    """What to tell the developer of an application whose llama.cpp was compiled for these CPU features; None if nothing."""
    beyond = features_beyond_portable(features)
    if not beyond:
        return None
    return (
        f"llama.cpp was compiled for this machine's CPU ({', '.join(beyond)}); on a CPU without these the application cannot "
        'decide: see "CPUs of other machines" in docs/apps.md of archroute-edge for a portable build'
    )
