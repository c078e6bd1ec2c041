"""Files beside the instances: plans, answers, times, acts."""
