"""The operating system: folders, whole files, checksums, bounded memory, child processes, forks and the end of the process.

A file appears under its name only when it is complete. A child process ends with its parent. Nothing here knows about
routing.

Used by: nearly every room. Other rooms import only the names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.system._expiring import ExpiringStore, bytes_in_memory
    from archroute_edge.system._files import (
        ENOUGH_BYTES,
        SAFETENSORS,
        file_digest,
        is_digest,
        kind_of_file,
        kind_of_folder,
        other_kind,
        partial_path,
        replaced_when_whole,
    )
    from archroute_edge.system._folders import (
        bundled_folder,
        cache_folder,
        check_private,
        expanded,
        is_file_here,
        is_folder_here,
        overriding_folder,
        own_folder,
    )
    from archroute_edge.system._locks import ProcessLock
    from archroute_edge.system._processes import (
        OwnProcess,
        ParentProcess,
        in_daemon_thread,
        program_ends,
        quiet_at_the_end,
        start_module,
        stop_at_the_end,
        take_stdin,
        take_stdout,
    )
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_expiring": "ExpiringStore bytes_in_memory",
            "_files": (
                "ENOUGH_BYTES SAFETENSORS file_digest is_digest kind_of_file kind_of_folder other_kind partial_path "
                "replaced_when_whole"
            ),
            "_folders": (
                "bundled_folder cache_folder check_private expanded is_file_here is_folder_here overriding_folder own_folder"
            ),
            "_locks": "ProcessLock",
            "_processes": (
                "OwnProcess ParentProcess in_daemon_thread program_ends quiet_at_the_end start_module stop_at_the_end "
                "take_stdin take_stdout"
            ),
        },
    )
