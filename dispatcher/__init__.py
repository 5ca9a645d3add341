"""The caller's side of podrelay, and the wire that all its parts share.

Whoever can write to Redis can run a job. So this package needs pydantic and redis only, and can be imported anywhere:
in an Airflow task, in a triggerer, in any service. Callers use :mod:`~dispatcher.client` or :mod:`~dispatcher.aio`.

From the top, each knowing only what is below it:

==========================================  ============================================================
``cli``                                     the `podrelay` command
``client``, ``aio``                         the clients, synchronous and asynchronous
``multiplexer``                             many followed jobs on two connections, under ``aio``
``reader``                                  one followed job: what Redis' answers mean, when it is over
``connection``                              the one module that speaks to redis-py
``channel``                                 a job's event and log streams: entries, gaps, digests
``steps``, ``dead_letter``, ``lua/``        the atomic steps in Redis as values, and their scripts
``record``, ``message``                     the job's record; the message that asks a worker to launch it
``spec``, ``pod_shape``                     what a caller asks for
``events``                                  what a caller gets: updates, the log, the result
``status``, ``names``                       statuses and failure reasons; keys, labels, annotations
``settings``, ``errors``, ``bounded_json``  PODRELAY_* variables; the error tree; JSON that anybody wrote
==========================================  ============================================================
"""
