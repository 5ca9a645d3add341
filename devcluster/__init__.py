"""The pocket cluster: the pods part of the Kubernetes REST API on one machine, each container a local process.

It exists so that tests, `make demo` and `podrelay dev` meet the same API, through the same client and the same kind
of kubeconfig, as a real cluster, without one. It is held to `tests/recordings/` by tests. It refuses to be more:
images choose only from a small table, nothing is isolated, nothing is scheduled by load.
"""
