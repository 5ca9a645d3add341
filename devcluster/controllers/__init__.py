"""The control plane below the API: what a cluster's scheduler and controller manager do with the stored objects.

``pods`` creates, deletes and evicts them and holds their workers; ``scheduler`` binds them to ``nodes``;
``node_lifecycle`` loses nodes and restarts kubelets; ``namespaces`` empties them.
``control_plane`` wires these together.
"""
