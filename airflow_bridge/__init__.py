"""Airflow's side of podrelay: KubernetesPodOperator's parameters, without a cluster's credentials.

Holds no policy: what a pod may be is decided where the cluster is (by the worker), what a job became is read from its
channel. Here are only the translations between Airflow's words and the dispatcher's, so this package needs neither
``kubernetes`` nor the provider that it replaces.
"""
