"""Video in, tracks out: reading, clip by clip prediction, writing."""
