"""Language models behind one protocol: endpoints, the embedded llama.cpp, and a scripted fake."""
