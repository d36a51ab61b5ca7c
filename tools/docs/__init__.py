"""Keeps README.md and docs/ true: runs what they show, and writes what is made from the code.

``python -m tools.docs check`` says where a page and the program differ; ``python -m tools.docs write`` puts it right.

- ``console``: every command is run and its output compared, but for times, sizes and the like (:mod:`.outputs`);
- ``python``: the blocks of a page are run one after another, as one program;
- ``yaml``: ``archroute check`` has nothing to say against it; ``json`` can be parsed;
- links and pictures lead somewhere.

A block that cannot be run here says so in an HTML comment above it, ``<!-- not run: why -->``. One without is an error if it
cannot be run, so that no block goes unchecked by oversight.
"""
