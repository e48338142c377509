"""Language models behind one protocol: endpoints, embedded models, and a scripted fake."""
