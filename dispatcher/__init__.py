"""The caller's side of podrelay, and the wire that all its parts share.

Whoever can write to Redis can run a job. So this package needs pydantic and redis only, and can be imported anywhere:
in an Airflow task, in a triggerer, in any service. Callers use :mod:`~dispatcher.client` or :mod:`~dispatcher.aio`.

From the top, each knowing only what is below it:

========================================  ============================================================
``cli``                                   the `podrelay` command
``client``, ``aio``                       the clients, synchronous and asynchronous
``multiplexer``                           many followed jobs on two connections, under ``aio``
``reader``                                one followed job: what Redis' answers mean, when it is over
``channel_reader``, ``replies``           entries into updates, in order; what both clients make of replies
``connection``, ``async_pool``            the two modules that speak to redis-py
``steps``, ``dead_letter``                the atomic steps in Redis, as values
``script``, ``lua/``                      their scripts, and the call of one
``channel``                               how log entries and events look in a job's two streams
``record``, ``message``                   the job's record; the message that asks a worker to launch it
``settings``, ``service_links``           PODRELAY_* variables, and those that Kubernetes sets for Services
``redis_endpoint``, ``redis_url``         where Redis is, and as whom; the one reader of its URL
``redis_server``                          what its INFO tells: whether it can be used
``spec``, ``spec_problems``               what a caller asks for; what is wrong with it, in words
``pod_shape``, ``shape_hints``            whether Kubernetes objects have the API's shape; what was meant
``pod_types``                             the API's types, as data
``events``, ``cursor``                    what a caller gets: updates, the log, the result; a place in it
``status``, ``names``                     statuses and failure reasons; keys, labels, annotations
``bounded_json``, ``backoff``             JSON that anybody may have written; pauses between tries
``version``                               this version's number
``plain_text``                            text from outside: what none may hold, how it is shown
``errors``                                the error tree
========================================  ============================================================
"""
