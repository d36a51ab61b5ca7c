"""Runs in a bundled program before the program itself: lets its executable run this package's workers.

``archroute_edge.system.start_module`` starts ``sys.executable -m MODULE``, which here is the program itself.
"""


def _pyi_rthook() -> None:
    import runpy
    import sys

    setattr(sys, "archroute_edge_runs_modules", True)  # noqa: B010 - child_process.BUNDLE_MARK, without importing anything
    if len(sys.argv) > 2 and sys.argv[1] == "-m" and sys.argv[2].startswith("archroute_edge."):
        module = sys.argv[2]
        del sys.argv[1:3]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        sys.exit()


_pyi_rthook()
del _pyi_rthook
