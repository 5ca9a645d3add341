"""What a worker decides: pure functions. No clock, no Redis, no cluster: time and observations are passed in.

- ``manifest`` builds the pod of an attempt, ``spec_copy`` keeps the spec in its annotations, ``policy`` lists what it
  may not have: ``pod_security`` is the table of Kubernetes' Pod Security Standards, ``own_credentials`` finds what
  belongs to the worker itself.
- ``judge`` says what an observation of the pod means for the job, as a ``verdict``: ``startup`` knows the limits on
  waiting, ``running`` those on the run, ``job_end`` which containers' ends count, ``failures`` why a pod ended or
  cannot start, ``history`` what only earlier observations told, ``waiting`` what the pod waits for, in words.
- ``retry`` decides whether another attempt follows, ``backoff_limit`` how often our own code may fail at a job.
- ``causes`` says of a failure who can mend it and how: ``cause_table`` is the table of that.
- ``slow_pods`` lists pods that are deleted and do not go.
"""
