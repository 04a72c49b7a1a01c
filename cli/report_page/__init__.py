"""The page of `fedloom report`: what a run left behind, as one HTML document.

Facts are read in one place (`reading`), everything else is pure: facts in, text out. Whatever comes from
a job is escaped by `wording.text` before it is written into the page; no script, nothing fetched.
"""
