"""What a worker decides: pure functions. No clock, no Redis, no cluster: time and looks are passed in.

The pod that is asked for: ``manifest`` makes it, with ``spec_copy`` in its annotations; ``policy`` says what it may not
have. What a look at it means: ``judge``, with ``failures`` (why it ended or cannot start), ``history`` (what only
earlier looks tell) and ``waiting`` (what it waits for, in words). What follows: ``retry`` (another attempt, or the
job's end), ``backoff_limit`` (how often a job may fail by a defect of ours). ``slow_pods`` are told to go and do not.
"""
