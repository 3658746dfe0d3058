"""Image loading: from files to pixels and masks, content hashes, the decode-once pixel cache."""
