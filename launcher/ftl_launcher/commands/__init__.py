"""One module a command (or a few that are alike); imported when the command runs."""
