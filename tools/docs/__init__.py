"""Keep README.md and docs/ true: run the commands that they show, and write the pages made from the code.

``python -m tools.docs check`` reports where a page and the program differ; ``python -m tools.docs write`` corrects it.

- ``console``: every command is run and its output compared, except for times, sizes and the like (:mod:`.outputs`);
- ``python``: a page's blocks are run one after another, as one program;
- ``yaml``: ``archroute check`` finds no error; ``json`` can be parsed;
- links and pictures have targets.

A block that cannot be run says so in an HTML comment above it, ``<!-- not run: why -->``. Any other block that cannot be run is
an error, so that none goes unchecked by oversight.
"""
