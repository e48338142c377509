"""Is what a server gives what the model's folder gives? If not, what does it do instead?"""
