"""The nouns: job, dataset, model, secret, status; how they are read, defaulted, checked, published.

The law: plain frozen dataclasses and pure functions, the standard library only. pyyaml is imported
by `documents` alone, and nothing but `documents` touches a file. What a field is called in YAML,
what it means and which values it takes is declared once, beside the field; the reader, the checks
and the CRDs all follow from there.
"""
