"""What helps around a run: the demo, the doctor, batches, estimates."""
