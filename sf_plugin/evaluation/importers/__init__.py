"""The field's own sets as cases: each module has `check(folder)` and `tasks(folder)`."""
