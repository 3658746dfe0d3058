"""From files to pixels: image and mask reading, content hashes, the decode-once pixel cache."""
