"""Acts on the objects in the store, as scheduler, API server and controller manager of a cluster do.

``pods`` creates, deletes and evicts them and holds their workers; ``scheduler`` binds them to ``nodes``;
``node_lifecycle`` loses nodes and restarts kubelets; ``namespaces`` empties them.
``control_plane`` wires these together.
"""
