"""The policy: a Llama-shaped decoder, its sizes, its sampler and its FLOPs."""
