"""Answers the Kubernetes REST API over HTTP.

``http`` checks the token and what is allowed, then routes: ``pod_routes``, ``object_routes`` for all other kinds,
``watch`` for lists and watches, ``discovery`` for what is no object. ``faults`` goes wrong on request, and
``control_routes`` takes such requests, from tests.
"""
