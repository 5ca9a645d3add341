"""What the kubelet of a node does with its pods.

``pod_worker`` leads one pod from its ``volumes`` to its end; ``containers`` starts and ends its containers, with
``pulls``, ``images``, ``environment`` and ``launcher`` for what they run; ``restarts`` starts them again;
``status_manager`` publishes what ``status`` makes of ``views``. ``host`` is what all pods share, ``node`` what a node
is to its pods, ``latency`` how long all of it takes.
"""
