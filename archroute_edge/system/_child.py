"""The script of a child process: ``python _child.py FOLDERS MODULE ARGUMENTS`` runs a module, as ``python -m`` does.

``-m`` itself would put the current folder in front of all others, and with it any ``numpy.py`` that lies there. In front of a
script stands the script's own folder.
"""

from __future__ import annotations

import json
import runpy
import sys


def _main() -> None:
    _, folders, module, *arguments = sys.argv
    # The parent's in the parent's order, so that the same packages are found, then what else this process has.
    sys.path[:] = dict.fromkeys([*json.loads(folders), *sys.path[1:], sys.path[0]])
    sys.argv[:] = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
