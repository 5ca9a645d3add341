"""podrelay on this machine: the processes of ``podrelay dev``, the demo, the benchmarks and the tests.

``processes`` starts and ends child processes, ``redis_server`` is a real Redis, ``stack`` starts Redis, the pocket
cluster and a worker. It starts the cluster and the worker as programs and imports neither.
"""
