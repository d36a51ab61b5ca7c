"""``python -m archroute_edge.cli``: the ``archroute`` command."""

from archroute_edge.cli import main

if __name__ == "__main__":
    main(prog_name="archroute")
