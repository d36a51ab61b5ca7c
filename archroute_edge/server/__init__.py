"""The HTTP server: one :class:`~archroute_edge.service.RoutingService` behind the protocols that clients already speak.

Needs the extra ``server`` (FastAPI, uvicorn, prometheus-client); nothing else of the package imports it.
"""
