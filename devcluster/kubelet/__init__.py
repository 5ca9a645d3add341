"""Does what the kubelet of a node does with its pods.

``pod_worker`` leads one pod from volumes to its end; ``containers`` starts and ends its containers, with ``pulls``,
``images``, ``environment`` and ``launcher`` for what they run; ``restarts`` starts them again; ``status_manager`` tells
the API server, in the words of ``status``. ``host`` is what all pods share, ``node`` what a node is to its pods,
``latency`` how long all of it takes.
"""
