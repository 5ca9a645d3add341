"""A worker: claims jobs of a queue, makes their pods in its cluster, and follows them to their ends.

A job's life is *claim, launch, follow, finish, forget*; ``jobs.controller`` is all of it on one screen, and
``docs/architecture.md`` draws it. What lies where, from above; each knows only what is below it:

    app             the Celery app, its one task, and the step that starts the supervisor
    queue           from the queue's messages to a launch, and nothing else of them to Celery
    exit_status     what the process says when it ends without having been told to; ``logging``: its own log
    supervisor      the thread beside Celery's that runs the loop
    loop            the asyncio core: claims, controllers, capacity, hand-over
    ownership       who has which job: reconciling, sweeping, hints of other workers
    jobs            one job: its controller, its record, its pod, its result
    context         what all jobs share: settings, store, cluster, watches, lease
    own_policy      what this worker refuses: its settings, and its own account and secrets
    cluster_health  whether the API server answers, and what a worker does that is blind
    lease           whether this worker may write, create, launch, take over
    logs            a container's log, from the API server's stream to the job's channel
    rules           what is decided, by pure functions: the pod, its verdict, retries, policy
    guard           begins loops again, whatever they met
    store           the door to the records: steps repeated until Redis has answered
    cluster         the door to Kubernetes: requests, credentials, watches
    failpoints      where tests stop the process; ``metrics``; ``settings``
"""
