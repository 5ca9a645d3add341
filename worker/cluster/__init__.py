"""The door to Kubernetes: requests on raw JSON, and what their answers prove.

``client`` makes the few requests there are; ``responses`` says what came back, ``backoff`` how long to wait after
a failure. ``watch`` keeps the pods of a namespace, each as an ``observation``; ``restart_rules`` tells a pod whose
containers could run again. Who asks: ``kubeconfig`` says it, ``credentials`` renews it, ``exec_plugin`` runs a program
that prints it; ``proxy`` is on the way.
"""
