"""The Airflow bridge: an operator with KubernetesPodOperator's parameters that holds no cluster's credentials.

What a pod may be, the worker in the cluster decides; what became of a job is read from its channel in Redis. Neither
``kubernetes`` nor KPO's provider is needed. What lies where (the layers are in ``pyproject.toml``, held by
import-linter):

What Airflow and DAGs load by name. Their paths stay: they are in users' DAGs and in Airflow's database.
    * ``provider``: the entry point of Airflow's provider manager.
    * ``decorators``: ``@task.podrelay`` and ``@task.podrelay_cmd``; ``script`` is what their container runs.
    * ``operator``: the task, sync or deferred: submit or attach, follow, finish.
    * ``trigger``: follows a deferred task's job in the triggerer; ``trigger_event`` is what it fires.
    * ``hook``: the connection; ``connection_fields`` is what its fields mean.
    * ``links``: the link to a log kept elsewhere; ``callbacks``: KPO's hooks.

What is decided, without Redis or Airflow's services.
    * ``outcome``: how a job's result ends the task; ``leaving``: what becomes of a job that its try leaves.
    * ``failure_text``: what a task that fails says, and the pod that was asked for.
    * ``task_log``: which lines the task's log gets and which hooks are due; ``container_lines``: whole lines of what
      the containers wrote.
    * ``task_identity``: the task instance as labels, key and reader, and whether this try submits its job again.

KPO's parameters as a job.
    * ``parameters``: the table of all. A new parameter of KPO is one row here, beside the operator's signature.
    * ``argument_values``: what users give, checked and converted by its kind; refused by the argument's name.
    * ``pod_arguments``: the pod's manifest and the job spec, made by that table.
    * ``ignored_parameters``: warns of those that have no effect.
    * ``kpo_merge``: KPO's merge of two pods; ``api_json``: Kubernetes' objects as JSON.
    * ``kubernetes_object``: the pod and the variables as users get them: dicts that answer as KPO's objects do.
    * ``kpo_methods``: what subclasses of KPO override in vain.
    * ``masking``: what of a pod may be shown.

What triggers share.
    * ``shared_client``: one Redis client for all triggers of an event loop.

A DAG file that imports the operator imports neither Redis nor the dispatcher: ``operator`` imports those in its methods
(held by ``tests/airflow/test_imports.py``).
"""
