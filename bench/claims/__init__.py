"""Tables of results judged by arithmetic: which printed numbers no run on that test set can have given."""
