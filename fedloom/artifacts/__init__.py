"""Where arrays and records live between the steps of a round.

An artifact is named by a key, is written once and appears whole or not at all; whoever reads it can
have its SHA-256 checked. Stores know bytes and keys, nothing of learning. Two libraries have their
only door here: the safetensors format in `arrays`, minio in `s3`.
"""
