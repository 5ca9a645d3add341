"""Everything on this machine: the processes of ``podrelay dev``, the demo, the benchmarks and the tests."""
