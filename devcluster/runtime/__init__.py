"""Runs containers, as containerd does on a node: ``process`` really, ``simulated`` for load; both write CRI ``logs``.

Beside them what a kernel would do: ``oom_killer`` holds memory limits, ``reaper`` ends what a killed server left.
``mounts`` stands in for mounts. ``journal`` keeps what every pod really wrote, for tests.
"""
