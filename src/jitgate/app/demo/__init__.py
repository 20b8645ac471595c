"""`jitgate demo`: everything on loopback with throw-away state, and the main job as a tour that proves each step."""
