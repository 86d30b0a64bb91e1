"""Process groups and sharding: configuration into DeepSpeed JSON, FSDP arguments and rank facts."""
