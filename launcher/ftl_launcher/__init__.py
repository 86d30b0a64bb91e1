"""The launcher: takes one YAML from a laptop to wherever it trains, and keeps the record of the run.

Nothing here imports torch, transformers, ray, sky or boto3 at module level: ``ftl`` must answer at once.
"""
