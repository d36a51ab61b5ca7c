"""One :class:`~archroute_edge.service.RoutingService` behind protocols that other programs already speak.

``stdio`` and what it imports (``stdio_*``, ``json_rpc``, ``pipes``, ``settings``) need nothing more than the package; the rest
is the HTTP server, which needs the extra ``server`` (FastAPI, uvicorn, prometheus-client). Only ``cli/serve.py`` imports any.
"""
