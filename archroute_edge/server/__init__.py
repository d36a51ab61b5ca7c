"""Faces of a :class:`~archroute_edge.service.RoutingService` for other programs."""
