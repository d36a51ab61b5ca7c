"""The operating system: folders, whole files, checksums, child processes, forks and the end of the process.

A file appears under its name only when it is complete. A child process ends with its parent. Nothing here knows about
routing.

Used by: every room but ``report``. Other rooms import only the names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.system._checksums import file_digest, is_digest
    from archroute_edge.system._child_process import ParentProcess, start_module, take_stdin, take_stdout
    from archroute_edge.system._file_kinds import ENOUGH_BYTES, SAFETENSORS, kind_of_file, kind_of_folder, other_kind
    from archroute_edge.system._folders import (
        bundled_folder,
        cache_folder,
        check_private,
        expanded,
        is_file_here,
        overriding_folder,
        own_folder,
    )
    from archroute_edge.system._own_process import OwnProcess
    from archroute_edge.system._process_end import in_daemon_thread, program_ends, quiet_at_the_end, stop_at_the_end
    from archroute_edge.system._whole_files import replaced_when_whole
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_checksums": "file_digest is_digest",
            "_child_process": "ParentProcess start_module take_stdin take_stdout",
            "_file_kinds": "ENOUGH_BYTES SAFETENSORS kind_of_file kind_of_folder other_kind",
            "_folders": "bundled_folder cache_folder check_private expanded is_file_here overriding_folder own_folder",
            "_own_process": "OwnProcess",
            "_process_end": "in_daemon_thread program_ends quiet_at_the_end stop_at_the_end",
            "_whole_files": "replaced_when_whole",
        },
    )
