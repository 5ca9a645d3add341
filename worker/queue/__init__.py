"""From a queue's messages to a launch: Celery sees nothing of a message but the one argument that was read.

``consumer`` is Celery's consumer and kombu's transport, ``gate`` reads each item before they do, ``dead_letters`` keeps
what it refuses, ``launch_task`` is the one task: it claims the job, and is done.
"""
