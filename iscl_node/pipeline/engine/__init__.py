"""The only room that knows the workflow engine (DBOS); it knows nothing of series."""
