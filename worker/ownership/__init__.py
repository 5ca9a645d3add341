"""Which worker owns which job: found out from the records, whatever message was lost.

``job_controllers`` claims jobs and lets go of them, ``reconciler`` compares this worker's jobs with their records,
``sweeper`` takes what nobody has (jobs whose owner let go or is dead, pods without a job), ``control`` hears hints of
callers and of the queue's other workers.
"""
