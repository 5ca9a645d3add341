"""The worker's client for the Kubernetes API: a few requests on raw JSON, and what their responses prove.

- ``client`` has one method per request; ``transport`` is HTTP below it, ``responses`` says what came back, ``backoff``
  how long to wait after a failure.
- ``watch`` keeps the pods of a namespace by list and watch. Each is an ``observation``, which ``pod_json`` reads;
  ``restart_rules`` finds what would run its containers again.
- ``kubeconfig`` says which cluster and as whom (``kubeconfig_file``: the file's fields, ``proxy``: the proxy on the
  way). ``credentials`` renews what expires, with ``exec_plugin`` and ``tls``; ``service_account`` reads who that is.
"""
