"""jitctl, the person's tool. Runs on the base install; every module imports what is heavy only where it is needed."""
