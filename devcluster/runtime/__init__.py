"""What runs containers, as containerd does on a node: ``process`` for real, ``simulated`` for load.

Both write ``logs`` in the CRI format. ``oom_killer`` holds memory limits, ``reaper`` ends what a killed server left,
``mounts`` stands in for mounts. ``journal`` keeps what every pod really wrote, for tests.
"""
