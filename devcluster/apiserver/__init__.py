"""The Kubernetes REST API over HTTP.

``http`` checks the token and what is allowed, then routes: ``pod_routes``, ``object_routes`` for all other kinds,
``watch`` for lists and watches, ``discovery`` for what is no object. ``bodies`` reads and writes what goes over the
wire, ``kubeconfig`` is for clients. ``control_routes`` lets tests ask for what goes wrong; ``faults`` is what goes
wrong in the API itself.
"""
