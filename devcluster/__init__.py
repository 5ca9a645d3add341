"""The pocket cluster: the pods part of the Kubernetes REST API on one machine, each container a local process.

It exists so that tests, ``make demo`` and ``podrelay dev`` meet the same API, through the same client and the same kind
of kubeconfig, as a real cluster, without one. It is held to ``tests/recordings/`` by tests. It refuses to be more:
images choose only from a small table, nothing is isolated, nothing is scheduled by load.

What lies where, from above; each room knows only those below it:

    cluster         ``PocketCluster``: everything together, and the controls for tests as methods
    apiserver       the REST API over HTTP: routes, watches, discovery, faults, and the controls under ``/pocket/``
    controllers     scheduler, pod deletion and eviction, node lifecycle, namespaces
    kubelet         what a node does: a worker for each pod, its containers, restarts, volumes, status
    local           child processes, a Redis server, and the local stack of ``podrelay dev``; knows nothing of pods
    runtime         what runs a container, as containerd does: processes, simulations, logs, memory limits
    apimachinery    objects and their rules: the store, errors, selectors, patches, schema, defaults, validation

From a pod's POST to its first process: ``apiserver.http``, ``apiserver.pod_routes``, ``controllers.pods``,
``controllers.scheduler``, ``kubelet.pod_worker``, ``kubelet.restarts``, ``kubelet.containers``, ``kubelet.launcher``,
``runtime.process``.
"""
