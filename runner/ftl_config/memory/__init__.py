"""How much memory of a device training takes: worked out from the config and the model's config.json alone.

No torch: the launcher asks before it rents a machine, the runner when memory has run out. What is counted, and how
close it comes, is in docs/estimate.md.
"""
