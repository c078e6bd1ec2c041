"""What the audit trail hears of the pipeline."""
