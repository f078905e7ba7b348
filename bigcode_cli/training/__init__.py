"""Training: from folders of source to a checkpoint of the family."""
