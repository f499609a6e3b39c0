"""Results as one page for a browser, in one file, without a network.

What the page says is found first, as frozen values (`story`, `columns`); then it is written (`render`). Nothing
that comes from a store gets into the page unescaped: text goes through `markup`, figures through `vector`.
"""
