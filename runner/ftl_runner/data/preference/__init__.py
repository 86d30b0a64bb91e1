"""Preference sets: pairs, judged answers, judged steps and prompts, from rows to columns that TRL's trainers take."""
