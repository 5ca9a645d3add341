"""The contract between the parts of podrelay, and the caller's side of it.

Needs pydantic and redis only: whoever can write to Redis can run a job, so this package must be light enough to
import anywhere (an Airflow task, a triggerer, a service).
"""
