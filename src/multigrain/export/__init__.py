"""From a trained model to production: ONNX, OpenVINO, self-contained folders, folders that servers read."""
